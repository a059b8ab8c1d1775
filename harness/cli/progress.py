"""Progress of a run: bars on a terminal, else lines, on stderr; everything in `run.log`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from harness.cli.time_left import TimeLeft
from harness.progress import LINE_SECONDS, Moment, duration
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
        self.bars = _Bars(len(plan.cells), plan.name, self.stream) if self.stream.isatty() else None
        self._closing.callback(self.close_bars)

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
        if event.kind in ("done", "failed"):
            self._advance(event)
        if text := _text(event):
            self._line(event, text, aside=self.bars is not None and event.kind == "start")

    def say(self, text: str) -> None:
        """Print a line about the whole run."""
        line = "\n".join(map(printable, text.splitlines()))
        self._write(line)
        self._print(line)

    def close_bars(self) -> None:
        """Leave the bar of the cells as it is; lines that follow come below it."""
        if self.bars is not None:
            self.bars.close()
            self.bars = None

    def interrupted(self) -> list[str]:
        """For each cell that was being computed, where it was and what of it is saved."""
        return [
            f"{self.cells[cell_id].title()}: stopped {_where(stages)}"
            for cell_id, stages in self.stages.items()
            if cell_id in self.cells
        ]

    def _stage(self, event: Event) -> None:
        self.stages[event.cell_id] = event.stages
        if self.bars is not None:
            self.bars.stage(event.cell_id, self._title(event), event.stages, self._left.text())
        now = time.monotonic()
        if event.stages and now - self._told.get(event.cell_id, now) >= LINE_SECONDS:
            self._told[event.cell_id] = now
            text = "; ".join(moment.text() for moment in event.stages)
            whole = self._left.text()
            text += f"; run: {whole}" if whole else ""
            self._line(event, text, aside=self.bars is not None)

    def _advance(self, event: Event) -> None:
        self.count += 1
        self.stages.pop(event.cell_id, None)
        self._left.over(event.cell_id, None if event.kind == "reused" else event.seconds)
        if self.bars is not None:
            self.bars.advance(event.cell_id, self._left.text())

    def _title(self, event: Event) -> str:
        return self.cells[event.cell_id].title() if event.cell_id in self.cells else ""

    def _line(self, event: Event, text: str, *, aside: bool = False) -> None:
        """A line about a cell; `aside`: for the log alone, since a bar shows it."""
        first, *more = text.splitlines() or [""]
        line = printable(f"[{self.count}/{len(self.cells)}] {self._title(event)}: {first}")
        line = "\n".join([line, *map(printable, more)])
        self._write(line)
        if not aside:
            self._print(line)

    def _print(self, line: str) -> None:
        if self.bars is not None:
            self.bars.write(line)
        else:
            print(line, file=self.stream, flush=True)

    def _write(self, text: str) -> None:
        if self._log is not None:
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            print(now, text, file=self._log, flush=True)


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


class _Bars:
    """One bar for the cells of a run, and below it one for each cell that is being computed."""

    def __init__(self, total: int, name: str, stream: TextIO) -> None:
        from tqdm import tqdm

        self.stream = stream
        form = "{l_bar}{bar}| {n_fmt}/{total_fmt} cells [{elapsed}{postfix}]"
        self.cells: Any = tqdm(total=total, desc=printable(name), file=stream, bar_format=form)
        self.open: dict[str, tuple[str, Any]] = {}  # title of the stage, its bar

    def advance(self, cell_id: str, left: str) -> None:
        self._close(cell_id)
        self.cells.set_postfix_str(left, refresh=False)
        self.cells.update(1)
        self.cells.refresh()

    def stage(self, cell_id: str, cell: str, stages: tuple[Moment, ...], left: str) -> None:
        self.cells.set_postfix_str(left)
        if not stages:
            self._close(cell_id)
            return
        last = stages[-1]
        title = f"{cell}: {last.title}"
        if self.open.get(cell_id, ("", None))[0] != title:
            self._close(cell_id)
            self.open[cell_id] = title, self._bar(title, last)
        bar = self.open[cell_id][1]
        bar.set_postfix_str(_beside(last), refresh=False)
        bar.n = last.done
        bar.refresh()

    def write(self, text: str) -> None:
        self.cells.write(text, file=self.stream)

    def close(self) -> None:
        for cell_id in list(self.open):
            self._close(cell_id)
        self.cells.close()

    def _bar(self, title: str, moment: Moment) -> Any:
        from tqdm import tqdm

        form = "  {desc} {percentage:3.0f}%|{bar:10}| {n_fmt}/{total_fmt}{postfix}"
        return tqdm(
            total=moment.total,
            initial=moment.done,
            desc=_short(printable(title)),
            file=self.stream,
            leave=False,
            bar_format=form,
        )

    def _close(self, cell_id: str) -> None:
        if cell_id in self.open:
            self.open.pop(cell_id)[1].close()


def _short(text: str, most: int = 45) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _beside(moment: Moment) -> str:
    left = "" if moment.left is None else f"about {duration(moment.left)} left"
    return ", ".join(filter(None, (left, printable(moment.note))))
