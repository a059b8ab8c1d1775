"""Progress of a run: a live view on a terminal, else lines, on stderr; everything in `run.log`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from harness.cli.live_view import LiveView
from harness.cli.time_left import TimeLeft
from harness.progress import LINE_SECONDS, Moment
from harness.runs.plan import Plan
from harness.spec.printable import printable

if TYPE_CHECKING:
    from harness.runs.executors.worker import Event


class Progress:
    """Listens to the events of one run; use as a context manager.

    `log`: the file that all lines are added to. `expected`: seconds of each cell by id.
    """

    def __init__(
        self,
        plan: Plan,
        stream: TextIO | None = None,
        log: Path | None = None,
        expected: Mapping[str, float] | None = None,
    ) -> None:
        self.cells = {cell.id: cell for cell in plan.cells}
        self.stream = sys.stderr if stream is None else stream
        self.count = 0
        self.reused = 0
        self.stages: dict[str, tuple[Moment, ...]] = {}
        self._left = TimeLeft(expected or {})
        self._told: dict[str, float] = {}
        self._closing = ExitStack()
        self._log = self._closing.enter_context(log.open("a", encoding="utf-8")) if log else None
        self.view: LiveView | None = None
        if _can_be_drawn_on(self.stream):
            self.view = LiveView(len(plan.cells), plan.name, self.stream)
        self._closing.callback(self.close_view)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.kind == "reused":
            self.reused += 1
            self._advance(event)
            return
        if event.kind == "stage":
            self._stage(event)
            return
        if event.kind == "start":
            self._left.start(event.cell_id)
            self._told[event.cell_id] = time.monotonic()
            if self.view is not None:
                self.view.start(event.cell_id, self._title(event))
        if event.kind in ("done", "failed"):
            self._advance(event)
        if text := _text(event):
            self._line(event, text, aside=self.view is not None and event.kind == "start")

    def say(self, text: str) -> None:
        """Print a line about the whole run."""
        line = "\n".join(map(printable, text.splitlines()))
        self._write(line)
        self._print(line)

    def close_view(self) -> None:
        """Leave the line of the run as it is; lines that follow come below it."""
        if self.view is not None:
            self.view.close()
            self.view = None

    def interrupted(self) -> list[str]:
        """For each cell that was being computed, where it was and what of it is saved."""
        return [
            f"{self.cells[cell_id].title()}: stopped {_where(stages)}"
            for cell_id, stages in self.stages.items()
            if cell_id in self.cells
        ]

    def _stage(self, event: Event) -> None:
        self.stages[event.cell_id] = event.stages
        if self.view is not None:
            self.view.stage(event.cell_id, self._title(event), event.stages, self._left.text())
        now = time.monotonic()
        if event.stages and now - self._told.get(event.cell_id, now) >= LINE_SECONDS:
            self._told[event.cell_id] = now
            text = "; ".join(moment.text() for moment in event.stages)
            whole = self._left.text()
            text += f"; run: {whole}" if whole else ""
            self._line(event, text, aside=self.view is not None)

    def _advance(self, event: Event) -> None:
        self.count += 1
        self.stages.pop(event.cell_id, None)
        self._left.over(event.cell_id, None if event.kind == "reused" else event.seconds)
        if self.view is not None:
            self.view.over(event.cell_id, self._left.text(), failed=event.kind == "failed")

    def _title(self, event: Event) -> str:
        return self.cells[event.cell_id].title() if event.cell_id in self.cells else ""

    def _line(self, event: Event, text: str, *, aside: bool = False) -> None:
        """A line about a cell; `aside`: for the log alone, since the view shows it."""
        first, *more = text.splitlines() or [""]
        line = printable(f"[{self.count}/{len(self.cells)}] {self._title(event)}: {first}")
        line = "\n".join([line, *map(printable, more)])
        self._write(line)
        if not aside:
            self._print(line)

    def _print(self, line: str) -> None:
        if self.view is not None:
            self.view.write(line)
        else:
            print(line, file=self.stream, flush=True)

    def _write(self, text: str) -> None:
        if self._log is not None:
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            print(now, text, file=self._log, flush=True)


def _can_be_drawn_on(stream: TextIO) -> bool:
    """Whether it is a terminal whose cursor can be moved."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def _text(event: Event) -> str:
    if event.kind == "start":
        return "started"
    if event.kind == "busy":
        return "another process is computing it; will look again"
    if event.kind == "log":
        return event.text
    if event.kind == "done":
        return f"done in {event.seconds:.1f} s"
    if event.kind == "failed":
        return f"FAILED: {event.text}"
    return ""


def _where(stages: tuple[Moment, ...]) -> str:
    for moment in stages:
        at = f"in {moment.title} at {moment.unit} {moment.done:,} of {moment.total:,}"
        if moment.saved is not None:
            return f"{at}, {moment.unit} {moment.saved:,} is saved"
    return f"{at}, nothing of it is saved" if stages else "before anything of it was saved"
