"""Progress of a run on stderr: a bar on a terminal, else one line per event."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, TextIO

from harness.runs.plan import Plan
from harness.spec.printable import printable

if TYPE_CHECKING:
    from tqdm import tqdm

    from harness.runs.compute.worker import Event


class Progress:
    """Listens to the events of one run; use as a context manager."""

    def __init__(self, plan: Plan, stream: TextIO | None = None) -> None:
        self.cells = {cell.id: cell for cell in plan.cells}
        self.stream = sys.stderr if stream is None else stream
        self.count = 0
        self.reused = 0
        self.bar = _bar(len(plan.cells), plan.name, self.stream) if self.stream.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.kind == "reused":
            self.reused += 1
            self._advance()
            return
        title = self.cells[event.cell_id].title() if event.cell_id in self.cells else ""
        if event.kind in ("done", "failed"):
            self._advance()
        if event.kind == "start" and self.bar is not None:
            self.bar.set_postfix_str(printable(title))
        elif text := _text(event):
            self._line(f"[{self.count}/{len(self.cells)}] {title}: {text}")

    def _advance(self) -> None:
        self.count += 1
        if self.bar is not None:
            self.bar.update(1)

    def _line(self, text: str) -> None:
        if self.bar is not None:
            self.bar.write(printable(text), file=self.stream)
        else:
            print(printable(text), file=self.stream, flush=True)


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


def _bar(total: int, name: str, stream: TextIO) -> tqdm[NoReturn]:
    from tqdm import tqdm

    return tqdm(total=total, desc=printable(name), unit="cell", file=stream)
