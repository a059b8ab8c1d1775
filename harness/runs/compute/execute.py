"""Running a plan: the executor interface, and the executor for one machine.

An executor only starts workers. The store (`harness.runs.store`) ensures that each cell is computed
once and that nothing is lost, so a distributed engine can replace this executor.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Protocol

from harness.runs.compute.worker import Event, Job, Tell, settled, work, worker_process
from harness.runs.plan import Cell, Plan
from harness.runs.store import CellStore, ModelStore

COMPUTE = "harness.runs.compute.cell:compute_cell"


def _silent(_event: Event) -> None:
    """Ignore the event."""


@dataclass(frozen=True)
class Settings:
    """How a plan is run; no setting changes a result."""

    models: ModelStore
    compute: str = COMPUTE
    fail_fast: bool = False
    notify: Tell = _silent


@dataclass(frozen=True)
class RunSummary:
    """The outcome of each cell of a plan: cell ids in the order of the plan."""

    computed: tuple[str, ...]
    reused: tuple[str, ...]
    elsewhere: tuple[str, ...]  # computed meanwhile by another process
    failed: tuple[tuple[str, str], ...]  # with the reason
    skipped: tuple[str, ...]  # not tried, because the run was told to stop at a failure
    models_built: tuple[str, ...]
    models_reused: tuple[str, ...]
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 if every cell has its result, else 1."""
        return 1 if self.failed or self.skipped else 0


class Executor(Protocol):
    """Computes the cells of a plan into a store."""

    def run(self, plan: Plan, store: CellStore, settings: Settings) -> RunSummary:
        """Compute what is missing; a failing cell never stops the others (unless `fail_fast`)."""
        ...


@dataclass
class _Session:
    """The state of one run."""

    plan: Plan
    store: CellStore
    settings: Settings
    began: float = field(default_factory=time.perf_counter)
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    said: set[tuple[object, ...]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.store.clean()
        self.titles = {cell.id: cell for cell in self.plan.cells}
        self.marks = {cell.id: self.store.failure_mark(cell.id) for cell in self.plan.cells}
        self.reused = {cell.id for cell in self.plan.cells if self.store.has(cell.id)}
        self.settings.models.clean(self.reused)
        self.models = {m for m in self.plan.by_model if self.settings.models.exists(m)}
        for cell in self.plan.cells:
            if cell.id in self.reused:
                self.settings.notify(Event("reused", cell.id))

    def tell(self, event: Event) -> None:
        if event.kind == "done":
            self.done.add(event.cell_id)
        elif event.kind == "failed":
            self.failed[event.cell_id] = event.text
        elif event.kind == "log" and not self._is_news(event):
            return
        self.settings.notify(event)

    def _is_news(self, event: Event) -> bool:
        """Whether no other worker has said the same of this task and model."""
        cell = self.titles[event.cell_id]
        line = cell.model_id, cell.task.spec.name, cell.variant, cell.limit, event.text
        is_news = line not in self.said
        self.said.add(line)
        return is_news

    def stopped(self) -> bool:
        return self.settings.fail_fast and bool(self.failed)

    def open_cells(self) -> list[Cell]:
        return [cell for cell in self.plan.cells if not settled(cell.id, self.store, self.marks)]

    def job(self, share: int = 0, shares: int = 1) -> Job:
        """The open cells, model by model; each share starts at another model where it can."""
        todo = {cell.id for cell in self.open_cells()}
        groups = [
            tuple(cell for cell in cells if cell.id in todo)
            for cells in self.plan.by_model.values()
        ]
        groups = [group for group in groups if group]
        first = share * len(groups) // shares
        return Job(
            cells=tuple(chain.from_iterable(groups[first:] + groups[:first])),
            folder=self.store.folder,
            models=self.settings.models.root,
            compute=self.settings.compute,
            marks=self.marks,
        )

    def summary(self) -> RunSummary:
        ids = list(self.titles)
        has = {cell_id: self.store.has(cell_id) for cell_id in ids}
        failed = {}
        for cell_id in ids:
            if not has[cell_id] and settled(cell_id, self.store, self.marks):
                failed[cell_id] = self.failed.get(cell_id) or self._stored_reason(cell_id)
        fresh = [i for i in ids if has[i] and i not in self.reused]
        finished = {m for m in self.plan.by_model if self.settings.models.exists(m)}
        return RunSummary(
            computed=tuple(i for i in fresh if i in self.done),
            reused=tuple(i for i in ids if i in self.reused),
            elsewhere=tuple(i for i in fresh if i not in self.done),
            failed=tuple(failed.items()),
            skipped=tuple(i for i in ids if not has[i] and i not in failed),
            models_built=tuple(m for m in self.plan.by_model if m in finished - self.models),
            models_reused=tuple(m for m in self.plan.by_model if m in self.models),
            seconds=time.perf_counter() - self.began,
        )

    def _stored_reason(self, cell_id: str) -> str:
        failure = self.store.failure(cell_id)
        return "failed" if failure is None else str(failure["error"]["message"])


@dataclass(frozen=True)
class LocalExecutor:
    """Workers on this machine: this process for one job, else `jobs` processes."""

    jobs: int = 1

    def run(self, plan: Plan, store: CellStore, settings: Settings) -> RunSummary:
        """Compute the plan's cells; an interrupt stops the workers and leaves a clean store."""
        session = _Session(plan, store, settings)
        todo = len(session.open_cells())
        if todo:
            try:
                if min(self.jobs, todo) == 1:
                    work(session.job(), session.tell, session.stopped)
                else:
                    _Pool(session, min(self.jobs, todo)).run()
            finally:
                store.clean()
        return session.summary()


@dataclass
class _Member:
    process: SpawnProcess
    pipe: Connection
    cell_id: str | None = None  # being computed
    ended: bool = False


class _Pool:
    """A pool of worker processes: a worker that dies fails its cell, never the run."""

    def __init__(self, session: _Session, size: int) -> None:
        self.session = session
        self.size = size
        self.members: list[_Member] = []
        self.idle_deaths = 0
        self.told_stop = False

    def run(self) -> None:
        try:
            for share in range(self.size):
                self._start(share)
            while self.members:
                self._step()
        finally:
            self._end_all()

    def _start(self, share: int) -> None:
        # As `harness/__init__.py` does, also where torch was imported before the harness.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        context = get_context("spawn")
        mine, theirs = context.Pipe()
        job = self.session.job(share, self.size)
        process = context.Process(target=worker_process, args=(job, theirs), daemon=True)
        process.start()
        theirs.close()
        self.members.append(_Member(process, mine))

    def _step(self) -> None:
        waitable: list[Connection | int] = []
        for member in self.members:
            waitable += [member.pipe, member.process.sentinel]
        ready = set(wait(waitable))
        for member in list(self.members):
            if member.pipe in ready or member.process.sentinel in ready:
                self._listen(member)
        if self.session.stopped() and not self.told_stop:
            self.told_stop = True
            for member in self.members:
                self._ask_to_stop(member)

    def _listen(self, member: _Member) -> None:
        alive = member.process.is_alive()  # asked first: what it sent before dying is read below
        try:
            while member.pipe.poll():
                self._take(member, member.pipe.recv())
        except (EOFError, OSError):
            # Its end of the pipe is closed: it has ended or is about to.
            member.process.join()
            alive = False
        if not alive:
            self.members.remove(member)
            member.process.join()
            member.pipe.close()
            if not member.ended:
                self._mourn(member)

    def _take(self, member: _Member, event: Event) -> None:
        if event.kind == "end":
            member.ended = True
            return
        if event.kind == "start":
            member.cell_id = event.cell_id
        elif event.kind in ("done", "failed"):
            member.cell_id = None
        self.session.tell(event)

    def _mourn(self, member: _Member) -> None:
        """Record the cell that died with its worker, and put another worker in its place."""
        code = member.process.exitcode
        died = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        if member.cell_id is None:
            self.idle_deaths += 1
            if self.idle_deaths > self.size:
                raise RuntimeError(f"worker processes keep ending before they compute ({died})")
        else:
            self._record_death(member.cell_id, f"its worker process died: {died}")
        if self.session.open_cells() and not self.session.stopped():
            self._start(len(self.members))

    def _record_death(self, cell_id: str, reason: str) -> None:
        store = self.session.store
        with store.claim(cell_id) as held:
            # Not held: another worker is already computing it anew.
            if held and not store.has(cell_id):
                store.fail(cell_id, self.session.titles[cell_id].labels(), reason)
                self.session.tell(Event("failed", cell_id, reason))

    def _ask_to_stop(self, member: _Member) -> None:
        try:
            member.pipe.send("stop")
        except OSError:
            member.ended = True  # it has just finished

    def _end_all(self) -> None:
        for member in self.members:
            member.process.terminate()
        for member in self.members:
            member.process.join(5)
            if member.process.is_alive():
                member.process.kill()
                member.process.join()
            member.pipe.close()
