"""The executor for a Ray cluster: what the driver hands out, takes in and stores.

A model is a task of its own, which the cells that need it wait for outside the cluster: no slot is
held by a cell that waits. The driver publishes cells and models, under the locks of its folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import HarnessError
from harness.runs.executors.ray.cluster import Cluster, Died, Ref, connected
from harness.runs.executors.ray.luggage import files_of, pack
from harness.runs.executors.ray.remote import (
    Broken,
    Computed,
    Desk,
    compute,
    make_dictionaries,
    make_model,
    publish,
)
from harness.runs.executors.session import RunSummary, Session, Settings
from harness.runs.executors.worker import Event, settle_failed, settled
from harness.runs.plan import Cell, Plan
from harness.runs.store import CellStore, ModelStore, provenance
from harness.runs.store.cells import error_note

POLL_SECONDS = 0.25


@dataclass(frozen=True)
class RayExecutor:
    """Tasks on a Ray cluster (`cluster.connected`), at most `jobs` at a time if that is not None.

    `retries`: how often a task is tried again whose worker or node died.
    """

    address: str | None = None
    jobs: int | None = None
    retries: int = 3

    def run(self, plan: Plan, store: CellStore, settings: Settings) -> RunSummary:
        """Compute the plan's cells; an interrupt ends the tasks and leaves a clean store.

        Raises `HarnessError` before anything is computed where no node can compute a cell.
        """
        session = Session(plan, store, settings)
        if todo := session.open_cells():
            with connected(self.address, self.retries) as cluster:
                cluster.refuse_unable(todo)
                try:
                    _Driver(session, cluster, self.jobs).run()
                finally:
                    store.clean()
        return session.summary()


class Need(NamedTuple):
    """Something trained that a cell needs: `kind` is `model` or `dictionaries`."""

    kind: str
    id: str


def needs_of(cell: Cell) -> tuple[Need, ...]:
    """What has to be there before a cell is computed, in the order in which it is made."""
    model = [Need("model", cell.model_id)] if cell.trains else []
    own = cell.dictionaries
    dictionaries = [Need("dictionaries", own.id)] if own is not None and own.trains else []
    return (*model, *dictionaries)


@dataclass
class _Task:
    """A task on the cluster: a cell's computation, or the making of what it needs."""

    cell: Cell
    need: Need | None
    claim: ExitStack = field(default_factory=ExitStack)  # of a cell, held while it is computed


class _Driver:
    def __init__(self, session: Session, cluster: Cluster, jobs: int | None) -> None:
        self.session, self.cluster, self.jobs = session, cluster, jobs
        self.desk = Desk(session.settings.compute, provenance.sender())
        self.waiting = list(session.job().cells)  # model by model
        self.running: dict[Ref, _Task] = {}
        self.begun: set[str] = set()  # cells that workers have said to have begun
        self.busy: set[str] = set()  # cells that were claimed elsewhere when last looked at
        self.ready: dict[Need, Ref] = {}
        self.broken: dict[Need, Broken] = {}
        self.luggage: dict[Any, Ref] = {}

    def run(self) -> None:
        try:
            while self.waiting or self.running:
                if self.session.stopped():
                    self._take_back()
                else:
                    self._hand_out()
                self._read_mail()
                for ref in self._ended():
                    self._take_in(self.running.pop(ref), self.cluster.result(ref))
            self._read_mail()
        finally:
            self.cluster.cancel(list(self.running), force=True)
            for task in self.running.values():
                task.claim.close()

    # ------------------------------------------------------------------ handing out
    def _hand_out(self) -> None:
        room = (self.jobs or max(1, 2 * self.cluster.cpus())) - len(self.running)
        for cell in list(self.waiting):
            if room <= 0:
                return
            before = len(self.running)
            if self._begin(cell):
                self.waiting.remove(cell)
            room -= len(self.running) - before

    def _begin(self, cell: Cell) -> bool:
        """Hand out the cell, or something that it needs; False while it has to wait."""
        if self._is_settled(cell):
            return True
        for need in needs_of(cell):
            if any(task.need == need for task in self.running.values()):
                return False
            self._fetch(need)
            if need in self.broken:
                self._fail(cell, self.broken[need])
                return True
            if need not in self.ready:
                return not self._make(need, cell)
        return self._compute(cell)

    def _compute(self, cell: Cell) -> bool:
        """Hand out a cell whose needs are ready; False if it is claimed elsewhere."""
        claim = ExitStack()
        if not claim.enter_context(self.session.store.claim(cell.id)):
            if cell.id not in self.busy:
                self.busy.add(cell.id)
                self.session.tell(Event("busy", cell.id))
            return False
        # Between the first look and the claim, its holder may have finished it.
        if self._is_settled(cell):
            claim.close()
            return True
        ready = {need.kind: self.ready[need] for need in needs_of(cell)}
        parts = ready.get("model"), ready.get("dictionaries")
        self._submit(_Task(cell, None, claim), compute, *parts)
        return True

    def _make(self, need: Need, cell: Cell) -> bool:
        """Hand out the making of what a cell needs; False if the cell failed."""
        if need.kind == "model":
            return self._submit(_Task(cell, need), make_model)
        model = self.ready.get(Need("model", cell.model_id))
        return self._submit(_Task(cell, need), make_dictionaries, model)

    def _submit(self, task: _Task, function: Callable[..., Any], *values: Ref | None) -> bool:
        """Hand out a task with its luggage; where a file is gone the cell fails, and False."""
        try:
            luggage = self._luggage_of(task.cell)
        except HarnessError as error:
            with task.claim:
                self._fail(task.cell, _broken(error))
            return False
        ref = self.cluster.submit(function, self.desk, task.cell, luggage, *values)
        self.running[ref] = task
        return True

    def _luggage_of(self, cell: Cell) -> Ref:
        """The files of a cell, handed to the cluster once for all cells that have the same."""
        paths = files_of(cell)
        key = tuple((path, *_state(path)) for path in paths)
        if key not in self.luggage:
            self.luggage[key] = self.cluster.put(pack(paths))
        return self.luggage[key]

    def _fetch(self, need: Need) -> None:
        """Hand what the store has to the cluster, once; what is damaged there counts as broken."""
        store = self._store_of(need)
        if need in self.ready or need in self.broken or not store.exists(need.id):
            return
        try:
            self.ready[need] = self.cluster.put(store.read(need.id).contents())
        except HarnessError as error:
            self.broken[need] = _broken(error)

    def _store_of(self, need: Need) -> ModelStore:
        models = self.session.settings.models
        return models if need.kind == "model" else models.dictionaries

    # ------------------------------------------------------------------ taking in
    def _ended(self) -> Iterator[Ref]:
        if self.running:
            yield from self.cluster.finished(list(self.running), POLL_SECONDS)
        elif self.waiting:
            time.sleep(POLL_SECONDS)  # all that wait are computed elsewhere

    def _take_in(self, task: _Task, outcome: Any) -> None:
        if isinstance(outcome, Died):
            outcome = Broken(error_note(outcome.text), outcome.text)
        with task.claim:
            if task.need is not None:
                self._take_need(task.need, outcome)
            elif isinstance(outcome, Computed):
                self._publish(task.cell, outcome)
            else:
                self._fail(task.cell, outcome)

    def _take_need(self, need: Need, outcome: Broken | Mapping[str, bytes]) -> None:
        if isinstance(outcome, Broken):
            self.broken[need] = outcome
            return
        store = self._store_of(need)
        try:
            with store.lock(need.id):
                publish(store, need.id, outcome)
        except Exception as error:  # of the disk: cells fail as they do on one machine
            self.broken[need] = _broken(error)
        self._fetch(need)

    def _publish(self, cell: Cell, outcome: Computed) -> None:
        try:
            self.session.store.publish(cell.id, outcome.output, outcome.provenance)
        except Exception as error:  # as a worker of this machine does: the others go on
            settle_failed(cell, self.session.store, self.session.tell, error, outcome.seconds)
        else:
            self.session.tell(Event("done", cell.id, "", outcome.seconds))

    def _fail(self, cell: Cell, broken: Broken) -> None:
        self.session.store.fail(cell.id, cell.labels(), broken.note)
        self.session.tell(Event("failed", cell.id, broken.text, broken.seconds))

    def _read_mail(self) -> None:
        for event in self.cluster.events():
            if event.kind == "start":
                if event.cell_id in self.begun:
                    continue  # for what it needs, or once more after a death
                self.begun.add(event.cell_id)
            self.session.tell(event)

    def _take_back(self) -> None:
        """After a failure that stops the run: begin nothing, and wait for what has begun."""
        self.waiting.clear()
        idle = [ref for ref, task in self.running.items() if task.cell.id not in self.begun]
        self.cluster.cancel(idle, force=False)
        for ref in idle:
            self.running.pop(ref).claim.close()

    def _is_settled(self, cell: Cell) -> bool:
        return settled(cell.id, self.session.store, self.session.marks)


def _broken(error: Exception) -> Broken:
    return Broken(error_note(error), f"{type(error).__name__}: {error}")


def _state(path: Path) -> tuple[int, int]:
    """What changes when a file does."""
    try:
        stat = path.stat()
    except OSError as error:
        raise HarnessError(f"{path} cannot be read: {error.strerror}") from error
    return stat.st_size, stat.st_mtime_ns
