"""One run of a plan, whoever computes its cells: how it is set, what has happened, what is open."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from harness.runs.executors.worker import Event, Job, Tell, settled
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
class Session:
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
        """Note an event and pass it on; what another worker has said already is not repeated."""
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
        """Whether no further cell is to be begun."""
        return self.settings.fail_fast and bool(self.failed)

    def open_cells(self) -> list[Cell]:
        """Cells that are neither done nor have failed in this run, in the order of the plan."""
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
        """What has become of each cell."""
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
