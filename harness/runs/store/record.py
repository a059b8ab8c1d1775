"""The record of a run (`plan.json`): the cells that were asked for, and their state.

Cells stay in the store for ever; the record lists those that belong in the tables. Asking for
a point of the grid again (same task, model, method, seed, limit) replaces its entry, so that a
changed spec never leaves numbers of two versions of a task in one table. A plan holds every
evaluation of each of its tasks, so entries of an evaluation that the suite no longer has are
dropped when one of its tasks is asked for again; other methods and seeds stay, since a command may
ask for only some of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from filelock import FileLock

from harness.errors import HarnessError, NotFound, StoreCorrupt
from harness.runs.plan import Cell, Plan
from harness.runs.plan.skipped import Skipped
from harness.runs.store import CellStore, ModelStore
from harness.runs.store.atomic import json_bytes, read_json, replace_file

PLAN = "plan.json"
MODELS = "models"  # beside the runs: the models they share

Status = Literal["ok", "smoke", "failed", "missing"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class PlannedCell:
    """A cell that was asked for."""

    id: str
    model_id: str
    task: str
    model: str
    method: str
    role: str
    seed: int
    limit: int | None
    identity: Mapping[str, Any] = field(compare=False, repr=False)
    variant: str = ""  # what the suite changed in the task's evaluation

    @property
    def point(self) -> tuple[str, str, str, str, int, int | None]:
        """The point of the grid, independent of the version of its specs."""
        return self.task, self.variant, self.model, self.method, self.seed, self.limit


@dataclass(frozen=True)
class StoredCell:
    """A planned cell with its state in the store; labels are those of the entry."""

    entry: PlannedCell
    status: Status
    store: CellStore
    result: Mapping[str, Any] | None = None
    timing: Mapping[str, Any] | None = None
    failure: Mapping[str, Any] | None = None


def runs_root(results: Path) -> list[Path]:
    """Folders of all runs below a results folder, by name."""
    if not results.is_dir():
        return []
    return sorted(path.parent for path in results.glob(f"*/{PLAN}"))


def find_run(results: Path, run: str) -> Path:
    """The folder of a run given as a path or as a name below `results`; `NotFound` if neither."""
    for folder in (Path(run), results / run):
        if (folder / PLAN).is_file():
            return folder
    names = ", ".join(path.name for path in runs_root(results)) or "none"
    raise NotFound(
        f"no run {run!r} (a folder with {PLAN}) here or in {results}; runs there: {names}"
    )


def by_beginning(cells: Mapping[str, Value], beginning: str, otherwise: str) -> Value:
    """The value of the one cell whose id has this beginning; `cells` are by id.

    Raises `NotFound(otherwise)` if there is none (or `beginning` is empty), and
    `HarnessError` listing the ids if there are several.
    """
    matches = sorted(cell for cell in cells if beginning and cell.startswith(beginning))
    if not matches:
        raise NotFound(otherwise)
    if len(matches) > 1:
        raise HarnessError(
            f"{beginning!r} begins {len(matches)} ids: {', '.join(matches)}; give more characters"
        )
    return cells[matches[0]]


def model_store(results: Path) -> ModelStore:
    """The models that all runs of a results folder share."""
    return ModelStore(results / MODELS)


def entry_of(cell: Cell) -> PlannedCell:
    """The entry of a planned cell."""
    return PlannedCell(
        id=cell.id,
        model_id=cell.model_id,
        task=cell.task.spec.name,
        model=cell.model_name,
        method=cell.method.name,
        role=cell.role,
        seed=cell.seed,
        limit=cell.limit,
        identity=cell.identity,
        variant=cell.variant,
    )


def record(folder: Path, plan: Plan) -> None:
    """Add a plan's cells to the run's record."""
    entries = [entry_of(cell) for cell in plan.cells]
    (folder / ".locks").mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".locks" / "plan.lock"):
        old = entries_of(folder) if (folder / PLAN).is_file() else []
        merged = _merge(old, entries, plan.grid)
        document = {
            "schema_version": 1,
            "name": plan.name,
            "cells": [vars(e) for e in merged],
            "left_out": [vars(one) for one in plan.skipped],
        }
        replace_file(folder / PLAN, json_bytes(document))


def _merge(
    old: Sequence[PlannedCell], new: Sequence[PlannedCell], grid: frozenset[tuple[str, str]]
) -> list[PlannedCell]:
    asked = grid | {(entry.task, entry.variant) for entry in new}
    again = {task for task, _ in asked}
    kept = [e for e in old if e.task not in again or (e.task, e.variant) in asked]
    # One cell under two names (models are called otherwise than before): the new one counts.
    named = {entry.id: entry.point for entry in new}
    kept = [e for e in kept if named.get(e.id, e.point) == e.point]
    # A dict keeps the place of a point that is replaced; sorting keeps each task together.
    points = {entry.point: entry for entry in (*kept, *new)}
    tasks: dict[str, int] = {}
    for entry in (*old, *new):
        tasks.setdefault(entry.task, len(tasks))
    return sorted(points.values(), key=lambda entry: tasks[entry.task])


def entries_of(folder: Path) -> list[PlannedCell]:
    """The cells that a run was asked for, in order."""
    path = folder / PLAN
    try:
        return [PlannedCell(**cell) for cell in read_json(path)["cells"]]
    except (KeyError, TypeError) as error:
        raise StoreCorrupt(f"{path} is not the record of a run ({error!r})") from error


def skipped_of(folder: Path) -> list[Skipped]:
    """What the last run left out because its files were missing."""
    path = folder / PLAN
    try:
        # Absent in records older than this feature.
        return [
            Skipped(one["task"], one["model"], tuple(one["needs"]))
            for one in read_json(path).get("left_out", ())
        ]
    except (KeyError, TypeError) as error:
        raise StoreCorrupt(f"{path} is not the record of a run ({error!r})") from error


def status_of(entry: PlannedCell, store: CellStore) -> Status:
    """Whether a cell is done, without reading its numbers."""
    if store.has(entry.id):
        return "ok" if entry.limit is None else "smoke"
    return "missing" if store.failure_mark(entry.id) is None else "failed"


def load_cells(folder: Path, wanted: Iterable[PlannedCell] | None = None) -> list[StoredCell]:
    """All cells of a run's record (or the wanted ones), with results read and checked."""
    store = CellStore(folder)
    return [_load(store, entry) for entry in (entries_of(folder) if wanted is None else wanted)]


def _load(store: CellStore, entry: PlannedCell) -> StoredCell:
    status = status_of(entry, store)
    if status in ("ok", "smoke"):
        return StoredCell(
            entry, status, store, store.result(entry.id), store.timing(entry.id), None
        )
    return StoredCell(entry, status, store, failure=store.failure(entry.id))
