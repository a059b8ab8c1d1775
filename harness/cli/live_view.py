"""A running suite on a terminal: how many cells are over, and how far those are that run now.

One line for the run and one for each cell that is being computed stay at the bottom; what is said
goes above them. Nothing is drawn between events: a thread would take time from what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from harness.progress import Moment, duration
from harness.spec.printable import printable

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

BAR, SHORT_BAR = 20, 10
ROOM_FOR_BARS = 72
"""Columns of a window from which on there are bars."""
MOMENT = 0.05
"""Seconds between two drawings, unless a cell begins or is over."""


class LiveView:
    """`total` cells of the run `name`, on a terminal; `close` leaves its first line.

    The cursor is hidden until then. Colours are left out where `NO_COLOR` is set.
    """

    def __init__(self, total: int, name: str, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self.total, self.name = total, printable(name)
        self.done = self.failed = 0
        self.left = ""
        self.running: dict[str, tuple[str, Moment | None]] = {}
        self._began = self._drawn = time.monotonic()
        self.console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._live = Live(
            self._lines(),
            console=self.console,
            auto_refresh=False,
            redirect_stdout=False,
            vertical_overflow="crop",
        )
        self._live.start(refresh=True)

    # ------------------------------------------------------------ what happens
    def start(self, cell_id: str, title: str) -> None:
        """A cell has begun."""
        self.running[cell_id] = printable(title), None
        self._draw()

    def stage(self, cell_id: str, title: str, stages: tuple[Moment, ...], left: str) -> None:
        """It is so far; the innermost of its stages is shown."""
        if cell_id not in self.running:  # over already
            return
        self.running[cell_id] = printable(title), stages[-1] if stages else None
        self.left = left
        if time.monotonic() - self._drawn >= MOMENT:
            self._draw()

    def over(self, cell_id: str, left: str, *, failed: bool) -> None:
        """It is done, was there before, or has failed."""
        self.running.pop(cell_id, None)
        self.done, self.failed = self.done + (not failed), self.failed + failed
        self.left = left
        self._draw()

    def write(self, text: str) -> None:
        """Lines above the view, as they are; the terminal wraps long ones."""
        from rich.text import Text

        self.console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        """Leave the line of the run, with the cursor below it."""
        self.running.clear()
        self.left = ""
        self._draw()
        self._live.stop()

    # ------------------------------------------------------------ what is drawn
    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self._live.update(self._lines(), refresh=True)

    def _lines(self) -> Group:
        from rich.console import Group

        width, height = self.console.size
        room = max(1, height - 3)
        shown = list(self.running.values())[:room]
        lines = [self._run(width), *(self._cell(*one, width) for one in shown)]
        if more := len(self.running) - len(shown):
            lines.append(_line([(f"  and {more} more are running", "dim")]))
        return Group(*lines)

    def _run(self, width: int) -> Text:
        over = self.done + self.failed
        counts = [
            (f"{self.done} done", "green" if self.done else ""),
            *([(f"{self.failed} failed", "bold red")] if self.failed else []),
            *([(f"{len(self.running)} running", "")] if self.running else []),
            (f"{self.total - over - len(self.running)} left", ""),
        ]
        parts = [(f"{_short(self.name, max(8, width // 4))} ", "bold")]
        if width >= ROOM_FOR_BARS:
            parts += [*_bar(over, self.total, BAR), (" ", "")]
        parts.append((f"{over}/{self.total} cells: ", ""))
        for place, count in enumerate(counts):
            parts += [(", ", ""), count] if place else [count]
        spent = f"; {duration(time.monotonic() - self._began)} so far"
        return _line([*parts, (spent, "dim"), *([(f", {self.left}", "dim")] if self.left else [])])

    def _cell(self, title: str, moment: Moment | None, width: int) -> Text:
        if moment is None:
            return _line([(f"  {title}", "")])
        named = f"{title}: {printable(moment.title)}"
        parts = [(f"  {_short(named, max(12, width // 2))} ", "")]
        if width >= ROOM_FOR_BARS:
            parts += [*_bar(moment.done, moment.total, SHORT_BAR), (" ", "")]
        return _line([*parts, *((text, "dim") for text in _far(moment))])


def _line(parts: list[tuple[str, str]]) -> Text:
    """One line, cut where the window ends: a second one would be drawn over."""
    from rich.text import Text

    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _bar(done: int, total: int, width: int) -> list[tuple[str, str]]:
    filled = width if total <= 0 else min(width, width * done // total)
    return [("━" * filled, "cyan"), ("─" * (width - filled), "dim")]


def _far(moment: Moment) -> Iterator[str]:
    """`100/400, about 45 s left, loss 3`."""
    yield f"{moment.done:,}/{moment.total:,}"
    if moment.left is not None:
        yield f", about {duration(moment.left)} left"
    if moment.note:
        yield f", {printable(moment.note)}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
