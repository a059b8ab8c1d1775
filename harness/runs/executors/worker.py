"""One worker: loop over the cells of a plan until each is done or has failed.

Workers are independent of each other. A cell is claimed with a lock file, checked once more,
computed, and published in one rename, so any number of workers and of `harness run` processes
may share a folder, join late, or be killed. A cell claimed elsewhere is revisited.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Literal

from harness.progress import Moment, Stage, shown_by
from harness.runs.compute.gpu import be_worker
from harness.runs.compute.plug_in_frames import described
from harness.runs.plan import Cell
from harness.runs.store import CellOutput, CellStore, ModelStore, provenance

Compute = Callable[[Cell, ModelStore, Callable[[str], None]], CellOutput]
Kind = Literal["reused", "start", "busy", "log", "stage", "done", "failed", "end"]

STAGE_SECONDS = 0.5
"""Time between two events about the stages of one cell."""


@dataclass(frozen=True)
class Event:
    """A change in the state of a cell (`end`: the worker has no cells left)."""

    kind: Kind
    cell_id: str = ""
    text: str = ""  # a log line, or why the cell failed
    seconds: float = 0.0  # of computing, for `done` and `failed`
    stages: tuple[Moment, ...] = ()  # of `stage`: those that are open, the outermost first


Tell = Callable[[Event], None]


@dataclass(frozen=True)
class Job:
    """The work of one worker; picklable, so that it can be sent to another process."""

    cells: tuple[Cell, ...]  # in the order in which this worker looks at them
    folder: Path
    models: Path
    compute: str  # "module:function", so that only a process that computes imports torch
    marks: Mapping[str, tuple[int, int] | None]  # `failure_mark` of every cell when the run began
    number: int = 0  # of the worker, from 0
    poll_seconds: float = 0.25


def load_compute(reference: str) -> Compute:
    """Import the function named by "module:function"."""
    module, _, name = reference.partition(":")
    compute: Compute = getattr(importlib.import_module(module), name)
    return compute


def settled(cell_id: str, store: CellStore, marks: Mapping[str, tuple[int, int] | None]) -> bool:
    """Whether the cell is done, or has failed since this run began (older failures are retried)."""
    if store.has(cell_id):
        return True
    mark = store.failure_mark(cell_id)
    return mark is not None and mark != marks.get(cell_id)


def work(job: Job, tell: Tell, stopped: Callable[[], bool], compute: Compute | None = None) -> None:
    """Settle every cell of the job; stop before the next cell once `stopped()` is true.

    `compute`: in place of the function that the job names.
    """
    worker = _Worker(job, tell, compute)
    waiting = list(job.cells)
    while waiting:
        busy = []
        for cell in waiting:
            if stopped():
                return
            if not worker.attempt(cell):
                busy.append(cell)
        if len(busy) == len(waiting):
            time.sleep(job.poll_seconds)
        waiting = busy


class _Worker:
    def __init__(self, job: Job, tell: Tell, compute: Compute | None) -> None:
        self.job = job
        self.tell = tell
        self.store = CellStore(job.folder)
        self.models = ModelStore(job.models)
        self.compute = compute
        self.told_busy: set[str] = set()

    def attempt(self, cell: Cell) -> bool:
        """Compute the cell if it is free; False if another worker holds it."""
        if settled(cell.id, self.store, self.job.marks):
            return True
        with self.store.claim(cell.id) as held:
            if not held:
                if cell.id not in self.told_busy:
                    self.told_busy.add(cell.id)
                    self.tell(Event("busy", cell.id))
                return False
            # Between the first look and the claim, its holder may have finished it.
            if not settled(cell.id, self.store, self.job.marks):
                self._compute(cell)
        return True

    def _compute(self, cell: Cell) -> None:
        if self.compute is None:
            # Before `start`: code that cannot be imported is no fault of this cell.
            self.compute = load_compute(self.job.compute)
        self.tell(Event("start", cell.id))
        begin = time.perf_counter()
        try:
            with shown_by(Told(self.tell, cell.id)):
                output = self.compute(cell, self.models, self._logger(cell.id))
            self.store.publish(cell.id, output, provenance.collect(cell.runtime))
            self.models.forget_scratch(cell.id)
        except Exception as error:
            # One failing cell never stops the others; its traceback is kept in the store.
            settle_failed(cell, self.store, self.tell, error, time.perf_counter() - begin)
        else:
            self.tell(Event("done", cell.id, "", time.perf_counter() - begin))

    def _logger(self, cell_id: str) -> Callable[[str], None]:
        return lambda text: self.tell(Event("log", cell_id, text))


def settle_failed(
    cell: Cell, store: CellStore, tell: Tell, error: Exception, seconds: float
) -> None:
    """Record and tell that a cell failed; one that is published is done, whatever came after."""
    if isinstance(error, OSError) and store.has(cell.id):
        tell(Event("log", cell.id, f"{type(error).__name__}: {error}"))
        tell(Event("done", cell.id, "", seconds))
        return
    store.fail(cell.id, cell.labels(), error)
    tell(Event("failed", cell.id, described(error), seconds))


class Told:
    """Shows the stages of a cell by telling of them, now and then."""

    def __init__(self, tell: Tell, cell_id: str) -> None:
        self.tell, self.cell_id = tell, cell_id
        self._open: list[Stage] = []
        self._last = time.monotonic()
        self._saved: int | None = None
        self._showing = False

    def begin(self, stage: Stage) -> None:
        """Tell of it when it moves."""
        self._open.append(stage)

    def move(self, stage: Stage) -> None:
        """Tell of all open stages if it is time, and of everything that was saved."""
        now = time.monotonic()
        if now - self._last >= STAGE_SECONDS or stage.kept not in (None, self._saved):
            self._last, self._saved = now, stage.kept
            self._tell()

    def end(self, stage: Stage, *, finished: bool) -> None:
        """Forget it; after an error or an interrupt, what was told last stays."""
        while stage in self._open:
            self._open.pop()
        if finished and self._showing:
            self._tell()

    def _tell(self) -> None:
        self._showing = bool(self._open)
        moments = tuple(stage.moment for stage in self._open)
        self.tell(Event("stage", self.cell_id, stages=moments))


def worker_process(job: Job, pipe: Connection) -> None:
    """Body of a worker process: sends events through the pipe; any message received means stop."""
    # An interrupt is the parent's to handle: it ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    be_worker(job.number)
    work(job, pipe.send, pipe.poll)
    pipe.send(Event("end"))


def _die_with_parent() -> None:
    """End this process when its parent dies, so that a killed run does not continue."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
