"""A window: a process with a terminal of its own, whose screen is read by a terminal emulator."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence

import pyte


class Window:
    """`python WORDS` in a window of so many columns and lines; use as a context manager."""

    def __init__(
        self, words: Sequence[str], columns: int, lines: int, more: Mapping[str, str] | None = None
    ) -> None:
        self.written = b""
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        unwanted = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE")
        environment = {name: x for name, x in os.environ.items() if name not in unwanted}
        environment |= {"TERM": "xterm-256color", **(more or {})}
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            _sized(0, columns, lines)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execve(sys.executable, [sys.executable, *words], environment)
        _sized(self.terminal, columns, lines)

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.terminal)
        try:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        except (ProcessLookupError, ChildProcessError):
            pass

    @property
    def rows(self) -> list[str]:
        """What the screen shows, without empty lines at its end."""
        rows = [row.rstrip() for row in self.screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def colours(self) -> set[str]:
        """Colours of all characters on the screen."""
        return {
            character.fg for row in self.screen.buffer.values() for character in row.values()
        } - {"default"}

    def resize(self, columns: int, lines: int) -> None:
        """Drag a corner of the window."""
        self.screen.resize(lines, columns)
        _sized(self.terminal, columns, lines)

    def press(self, key: bytes) -> None:
        """Send a key."""
        os.write(self.terminal, key)

    def until(self, shown: Callable[[Window], bool], seconds: float = 120) -> None:
        """Read until the screen shows something; fails with the screen if it never does."""
        end = time.monotonic() + seconds
        while not shown(self):
            if not self._read(end - time.monotonic()):
                rows = "\n".join(self.rows)
                raise AssertionError(f"not shown:\n{rows}")

    def finish(self, seconds: float = 120) -> int:
        """Read to the end, and return the exit code."""
        end = time.monotonic() + seconds
        while self._read(end - time.monotonic()):
            pass
        _, status = os.waitpid(self.process, 0)
        return os.waitstatus_to_exitcode(status)

    def _read(self, seconds: float) -> bool:
        """Take what is written next; False at the end or after so many seconds."""
        ready, _, _ = select.select([self.terminal], [], [], max(0.0, seconds))
        if not ready:
            return False
        try:
            data = os.read(self.terminal, 65536)
        except OSError:  # the process has ended
            return False
        self.written += data
        self._stream.feed(data)
        return bool(data)


def _sized(terminal: int, columns: int, lines: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
