"""Progress of long work: stages that say how far they are, and displays that show it.

    with stage("training", total=600, unit="step") as training:
        for _ in range(600):
            ...
            training.advance(note="loss 0.31")
    for batch in through(batches, "eap", "batch"):
        ...

What shows a stage is chosen by the caller, with `shown_by(display)`; else a terminal gets a bar and
anything else a line about every 30 seconds, both on stderr. Progress never moves a result.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TextIO, TypeVar

Item = TypeVar("Item")

LINE_SECONDS = 30.0
"""Time between two lines where there is no terminal."""

_MOVE_SECONDS = 0.1


@dataclass(frozen=True)
class Moment:
    """How far a stage is: `done` of at most `total`, from `first` on in `seconds`.

    `saved`: what a checkpoint holds of it; None where nothing is saved on the way.
    """

    title: str
    unit: str
    total: int
    done: int
    first: int = 0
    seconds: float = 0.0
    note: str = ""
    saved: int | None = None

    @property
    def left(self) -> float | None:
        """Seconds left at the present speed; None before anything is done."""
        if self.done <= self.first:
            return None
        return self.seconds * (self.total - self.done) / (self.done - self.first)

    def text(self) -> str:
        """One line: `training: step 640 of 2,000, loss 0.31, about 2 min left`."""
        parts = [f"{self.title}: {self.unit} {self.done:,} of {self.total:,}"]
        parts += [self.note] if self.note else []
        parts += [] if self.left is None else [f"about {duration(self.left)} left"]
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`: as precise as a forecast can be."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(round(seconds / 600) * 10, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


class Stage:
    """Work of `total` units, of which `done` are done; made by `stage`."""

    def __init__(self, title: str, total: int, unit: str, done: int, display: Display) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = self.first = done
        self.note = ""
        self.kept: int | None = done or None
        self._display = display
        self._began = self._moved = time.monotonic()

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """So many more units are done; `note` is shown beside them from now on."""
        self.done += count
        if note is not None:
            self.note = note
        now = time.monotonic()
        if now - self._moved >= _MOVE_SECONDS:
            self._moved = now
            self._display.move(self)

    def saved(self) -> None:
        """Everything up to here is in a checkpoint."""
        self.kept = self.done
        self._display.move(self)

    @property
    def moment(self) -> Moment:
        """How far it is now."""
        seconds = time.monotonic() - self._began
        return Moment(
            *(self.title, self.unit, self.total, self.done),
            *(self.first, seconds, self.note, self.kept),
        )


class Display(Protocol):
    """Shows stages; those that are open are nested."""

    def begin(self, stage: Stage) -> None:
        """A stage has begun."""
        ...

    def move(self, stage: Stage) -> None:
        """It is farther than before."""
        ...

    def end(self, stage: Stage, *, finished: bool) -> None:
        """It is over, with all that was begun inside it; `finished`: without an error."""
        ...


_CHOSEN: ContextVar[Display | None] = ContextVar("display", default=None)


@contextmanager
def shown_by(display: Display) -> Iterator[None]:
    """Stages inside are shown by this display."""
    token = _CHOSEN.set(display)
    try:
        yield
    finally:
        _CHOSEN.reset(token)


@contextmanager
def stage(title: str, total: int, unit: str = "step", done: int = 0) -> Iterator[Stage]:
    """A stage that is over at the end of the block; `done` of it were done before."""
    display = _CHOSEN.get() or display_on(sys.stderr)
    one = Stage(title, total, unit, done, display)
    display.begin(one)
    finished = False
    try:
        yield one
        finished = True
    finally:
        display.end(one, finished=finished)


def through(items: Sequence[Item], title: str, unit: str) -> Iterator[Item]:
    """The items one by one, each a unit of a stage that is done when the next is asked for."""
    with stage(title, len(items), unit) as one:
        for item in items:
            yield item
            one.advance()


# ---------------------------------------------------------------- displays
def display_on(stream: TextIO) -> Display:
    """Bars on a terminal, lines elsewhere."""
    return Bars(stream) if stream.isatty() else Lines(stream)


class Nowhere:
    """Shows nothing: where another process shows the same."""

    def begin(self, stage: Stage) -> None:
        """Nothing."""

    def move(self, stage: Stage) -> None:
        """Nothing."""

    def end(self, stage: Stage, *, finished: bool) -> None:
        """Nothing."""


class Lines:
    """A line for a stage that goes on, at most every `seconds`."""

    def __init__(self, stream: TextIO, seconds: float = LINE_SECONDS) -> None:
        self.stream, self.seconds = stream, seconds
        self._last = time.monotonic()

    def begin(self, stage: Stage) -> None:
        """Nothing: most stages are short."""

    def move(self, stage: Stage) -> None:
        """Print a line if the last one is long ago."""
        now = time.monotonic()
        if now - self._last >= self.seconds:
            self._last = now
            print(stage.moment.text(), file=self.stream, flush=True)

    def end(self, stage: Stage, *, finished: bool) -> None:
        """Nothing."""


class Bars:
    """A bar with the time left for every stage that goes on for more than a moment."""

    DELAY = 0.5

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._open: list[tuple[Stage, Any]] = []

    def begin(self, stage: Stage) -> None:
        """Open a bar below those that are open."""
        from tqdm import tqdm

        bar = tqdm(
            total=stage.total,
            initial=stage.first,
            desc=stage.title,
            unit=stage.unit,
            file=self.stream,
            leave=False,
            delay=self.DELAY,
        )
        self._open.append((stage, bar))

    def move(self, stage: Stage) -> None:
        """Move its bar."""
        for one, bar in self._open:
            if one is stage:
                bar.set_postfix_str(stage.note, refresh=False)
                bar.update(stage.done - bar.n)

    def end(self, stage: Stage, *, finished: bool) -> None:
        """Close its bar and those below it."""
        while any(one is stage for one, _ in self._open):
            self._open.pop()[1].close()
