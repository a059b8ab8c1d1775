"""The n-th call of the operating system fails, or the process is killed there.

Counted are all calls on files below one folder that write, force to disk, rename, open and lock.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ERRORS = {
    "write": errno.ENOSPC,
    "fsync": errno.EIO,
    "rename": errno.EIO,
    "open": errno.EMFILE,
    "lock": errno.ENOLCK,
}


class Faults:
    """Counts calls below `root`; the one of number `at` (from 0) raises an error or kills us.

    A write that fails writes half of what it should first. Nothing is really forced to disk.
    """

    def __init__(self, root: Path) -> None:
        self.root = os.fspath(root.resolve())
        self.calls: list[str] = []
        self.at: int | None = None
        self.fault = "kill"
        self.parent = os.getpid()

    def arm(self, at: int | None = None, fault: str = "kill") -> None:
        """Count from here on; the fault is `error`, `interrupt` or `kill`."""
        self.calls, self.at, self.fault = [], at, fault

    def _call(self, kind: str, place: str, torn: Callable[[], object]) -> None:
        if not place.startswith(self.root):
            return
        self.calls.append(f"{kind} {place[len(self.root) + 1 :]}")
        if len(self.calls) - 1 != self.at:
            return
        torn()
        if self.fault == "error":
            named = (place,) if kind in ("open", "rename") else ()  # as the system does
            raise OSError(ERRORS[kind], os.strerror(ERRORS[kind]), *named)
        if self.fault == "interrupt":
            raise KeyboardInterrupt
        assert os.getpid() != self.parent, "would kill the tests"
        os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count calls of this process and of those it forks."""
        real = {
            "os.write": os.write,
            "os.open": os.open,
            "os.rename": os.rename,
            "os.replace": os.replace,
            "fcntl.flock": fcntl.flock,
            "io.open": io.open,
        }

        def of(descriptor: int) -> str:
            return os.readlink(f"/proc/self/fd/{descriptor}")

        def write(descriptor: int, content: Any) -> int:
            def half() -> None:
                real["os.write"](descriptor, bytes(content)[: len(content) // 2])

            self._call("write", of(descriptor), half)
            return real["os.write"](descriptor, content)  # type: ignore[no-any-return]

        def fsync(descriptor: int) -> None:
            self._call("fsync", of(descriptor), lambda: None)

        def flock(descriptor: int, operation: int) -> None:
            self._call("lock", of(descriptor), lambda: None)
            real["fcntl.flock"](descriptor, operation)

        def by_path(kind: str, name: str) -> Any:
            def call(path: Any, *rest: Any, **options: Any) -> Any:
                if isinstance(path, str | Path):
                    self._call(kind, os.path.abspath(path), lambda: None)
                return real[name](path, *rest, **options)

            return call

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", write)
            patch.setattr(os, "fsync", fsync)
            patch.setattr(fcntl, "flock", flock)
            patch.setattr(os, "open", by_path("open", "os.open"))
            patch.setattr(os, "rename", by_path("rename", "os.rename"))
            patch.setattr(os, "replace", by_path("rename", "os.replace"))
            opened = by_path("open", "io.open")
            patch.setattr(io, "open", opened)
            patch.setattr(builtins, "open", opened)
            yield

    def kill(self, run: Callable[[], object], at: int) -> None:
        """Run in a process of its own that is killed at call `at`."""
        self.arm(at)
        child = os.fork()
        if not child:
            try:
                run()
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "it ended before"
        assert os.WTERMSIG(status) == signal.SIGKILL
