"""The record of a run (`plan.json`): the cells that were asked for, and their state.

Cells stay in the store for ever; the record lists those that belong in the tables. Asking for
a point of the grid again (same task, model, method, seed, limit) replaces its entry, so that a
changed spec never leaves numbers of two versions of a task in one table. A plan holds every
evaluation of each of its tasks, so entries of an evaluation that the suite no longer has are
dropped when one of its tasks is asked for again; other methods and seeds stay, since a command may
ask for only some of them.

The record has a seal (`harness.runs.store.sealed`). One that was written before there were seals
is read, and what it calls a cell is compared with the cell's result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from harness.errors import HarnessError, NotFound, StoreCorrupt
from harness.runs.plan import Cell, Plan
from harness.runs.plan.skipped import Skipped
from harness.runs.store import CellStore, ModelStore
from harness.runs.store.atomic import remove_drafts, replace_file
from harness.runs.store.locks import lock
from harness.runs.store.sealed import read_sealed_json, sealed_json
from harness.spec.identity import digest

PLAN = "plan.json"
RUN_LOG = "run.log"  # what was said while it was computed
MODELS = "models"  # beside the runs: the models they share

SHOWN = ("provenance.json", "examples.safetensors")
"""Files of a cell beside its result and timing that tables are made of."""

REPLACE = "delete it and run the suite again: finished cells are kept"

Status = Literal["ok", "smoke", "failed", "missing", "damaged"]
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
    beside: str = ""  # of a control search: the `conditions` of the cell that it repeats

    @property
    def point(self) -> tuple[str, str, str, str, int, int | None]:
        """The point of the grid, independent of the version of its specs."""
        return self.task, self.variant, self.model, self.method, self.seed, self.limit

    @property
    def place(self) -> tuple[str, str, str, int | None]:
        """What tables are of, independent of the version of its specs."""
        return self.task, self.variant, self.model, self.limit

    @cached_property
    def conditions(self) -> str:
        """Equal for cells that belong into one table: all but method and seed is.

        Those of a control search are of the cell that it repeats.
        """
        if self.beside:
            return self.beside
        shared = {k: v for k, v in self.identity.items() if k not in ("method", "seed")}
        return digest([self.task, self.model, self.model_id, shared])


@dataclass(frozen=True)
class StoredCell:
    """A planned cell with its state in the store; labels are those of the entry.

    A damaged one has no numbers: some file of it is not what was published (`failure` says which).
    """

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
        beside="" if cell.beside is None else entry_of(cell.beside).conditions,
    )


def record(folder: Path, plan: Plan) -> None:
    """Add a plan's cells to the run's record."""
    entries = [entry_of(cell) for cell in plan.cells]
    with _replacing(folder) as old:
        _write(folder, plan.name, _merge(old, entries, plan.grid), plan.skipped)


def add_entries(folder: Path, new: Sequence[PlannedCell], left_out: Sequence[Skipped]) -> None:
    """Add entries of another record of the same run, whose points are free, and what it left out.

    A record that is not there is begun. What was left out there and has a cell now is not listed.
    """
    with _replacing(folder) as old:
        ids = {entry.id for entry in old}
        entries = _by_task([*old, *(entry for entry in new if entry.id not in ids)])
        cells = {(entry.task, entry.model) for entry in entries}
        there = skipped_of(folder) if old else []
        skipped = dict.fromkeys(
            one for one in (*there, *left_out) if (one.task, one.model) not in cells
        )
        _write(folder, folder.name, entries, tuple(skipped))


@contextmanager
def _replacing(folder: Path) -> Iterator[list[PlannedCell]]:
    """Hold the right to replace the record of a run; yields its entries."""
    with lock(folder / ".locks" / "plan.lock"):
        remove_drafts(folder / PLAN)
        yield entries_of(folder) if (folder / PLAN).is_file() else []


def _write(
    folder: Path, name: str, entries: Iterable[PlannedCell], left_out: Iterable[Skipped]
) -> None:
    document = {
        "schema_version": 2,  # 1 had no seal
        "name": name,
        "cells": [{one.name: getattr(e, one.name) for one in fields(e)} for e in entries],
        "left_out": [vars(one) for one in left_out],
    }
    replace_file(folder / PLAN, sealed_json(document))


def _merge(
    old: Sequence[PlannedCell], new: Sequence[PlannedCell], grid: frozenset[tuple[str, str]]
) -> list[PlannedCell]:
    asked = grid | {(entry.task, entry.variant) for entry in new}
    again = {task for task, _ in asked}
    kept = [e for e in old if e.task not in again or (e.task, e.variant) in asked]
    # One cell under two names (models are called otherwise than before): the new one counts.
    named = {entry.id: entry.point for entry in new}
    kept = [e for e in kept if named.get(e.id, e.point) == e.point]
    # A dict keeps the place of a point that is replaced; sorting keeps each task together. Where
    # entries of another version stay, what was asked for last comes last: tables rank that one.
    points = {entry.point: entry for entry in (*_last_is_newest(kept, new), *new)}
    return _by_task(points.values(), first=old)


def _by_task(
    entries: Iterable[PlannedCell], first: Iterable[PlannedCell] = ()
) -> list[PlannedCell]:
    """Entries sorted so that those of a task stand together, tasks of `first` first."""
    entries = list(entries)
    tasks: dict[str, int] = {}
    for entry in (*first, *entries):
        tasks.setdefault(entry.task, len(tasks))
    return sorted(entries, key=lambda entry: tasks[entry.task])


def method_of(entry: PlannedCell) -> Any:
    """A cell's method as its id has it: kind, parameters, version."""
    return entry.identity.get("method")


def _last_is_newest(
    kept: Sequence[PlannedCell], new: Sequence[PlannedCell]
) -> Iterable[PlannedCell]:
    """The kept entries, without those asked for again beside entries of another version."""
    points = {entry.point for entry in new}
    versions = {entry.place: entry.conditions for entry in new}
    methods = {(entry.place, entry.method): method_of(entry) for entry in new}
    mixed = {
        entry.place
        for entry in kept
        if entry.point not in points
        and (
            versions.get(entry.place, entry.conditions) != entry.conditions
            or methods.get((entry.place, entry.method), method_of(entry)) != method_of(entry)
        )
    }
    return (entry for entry in kept if entry.point not in points or entry.place not in mixed)


def entries_of(folder: Path) -> list[PlannedCell]:
    """The cells that a run was asked for, in order."""
    return _read(folder)[0]


def skipped_of(folder: Path) -> list[Skipped]:
    """What the last run left out because its files were missing."""
    path = folder / PLAN
    try:
        # Absent in records older than this feature.
        return [
            Skipped(one["task"], one["model"], tuple(one["needs"]))
            for one in read_sealed_json(path, REPLACE, without_seal=1).get("left_out", ())
        ]
    except (KeyError, TypeError) as error:
        raise StoreCorrupt(f"{path} is not the record of a run ({error!r}); {REPLACE}") from error


def _read(folder: Path) -> tuple[list[PlannedCell], bool]:
    """The entries of a record, and whether it has a seal."""
    path = folder / PLAN
    try:
        document = read_sealed_json(path, REPLACE, without_seal=1)
        entries = [PlannedCell(**cell) for cell in document["cells"]]
        sealed = bool(document["schema_version"] != 1)
        wrong = [entry for entry in entries if not sealed and not is_own(entry)]
    except (KeyError, TypeError, ValueError) as error:
        raise StoreCorrupt(f"{path} is not the record of a run ({error!r}); {REPLACE}") from error
    if wrong:
        raise StoreCorrupt(f"{path}: {wrong[0].id[:12]} is not the id of its cell; {REPLACE}")
    return entries, sealed


def is_own(entry: PlannedCell) -> bool:
    """Whether an entry's id, seed and limit are those of its identity."""
    own = digest(entry.identity), entry.identity["seed"], entry.identity["limit"]
    return own == (entry.id, entry.seed, entry.limit)


def status_of(entry: PlannedCell, store: CellStore) -> Status:
    """Whether a cell is done, without reading its numbers."""
    if store.has(entry.id):
        return "ok" if entry.limit is None else "smoke"
    return "missing" if store.failure_mark(entry.id) is None else "failed"


def load_cells(folder: Path, wanted: Iterable[PlannedCell] | None = None) -> list[StoredCell]:
    """All cells of a run's record (or the wanted ones), with results read and checked.

    A cell with a file that is not what was published is `damaged`, whatever its numbers say.
    """
    store = CellStore(folder)
    entries, sealed = _read(folder)
    return [_load(store, entry, sealed) for entry in (entries if wanted is None else wanted)]


def faults_of(cells: Iterable[StoredCell]) -> list[str]:
    """What is wrong with the damaged ones of some cells: the file, and what to do."""
    damaged = [cell.failure for cell in cells if cell.status == "damaged"]
    return list(dict.fromkeys(one["error"]["message"] for one in damaged if one is not None))


def _load(store: CellStore, entry: PlannedCell, sealed: bool) -> StoredCell:
    status = status_of(entry, store)
    try:
        if status not in ("ok", "smoke"):
            return StoredCell(entry, status, store, failure=store.failure(entry.id))
        files = store.read(entry.id)  # its manifest is read once
        result, timing = store.result(entry.id, files), files.json("timing.json")
        for name in SHOWN:
            files.path(name)
        _check_labels(entry, result, store.folder / PLAN, sealed)
        return StoredCell(entry, status, store, result, timing)
    except StoreCorrupt as error:
        failure = {"error": {"type": type(error).__name__, "message": str(error)}}
        return StoredCell(entry, "damaged", store, failure=failure)


def _check_labels(entry: PlannedCell, result: Mapping[str, Any], path: Path, sealed: bool) -> None:
    """Refuse an entry that speaks of another cell than the result does.

    Names may change after a cell was computed, so a record with a seal is right about them.
    """
    names = ("model_id",) if sealed else ("model_id", "task", "model", "method")
    for name in names:
        if (said := getattr(entry, name)) != result[name]:
            raise StoreCorrupt(
                f"{path} says that {name} of cell {entry.id[:12]} is {said!r}, its result "
                f"{result[name]!r}; {REPLACE}"
            )
