"""Results folders of several people or machines made one, by content.

A cell's id is a digest of all that can move its numbers, so two folders that have a cell have the
same cell. Its bytes may still differ: other processors round otherwise. What is there stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HarnessError, StoreCorrupt
from harness.runs.store import CellStore, ModelStore
from harness.runs.store.record import (
    PLAN,
    PlannedCell,
    add_entries,
    entries_of,
    is_own,
    model_store,
    runs_root,
    skipped_of,
)
from harness.runs.store.sealed import MANIFEST, SealedFolder
from harness.spec.identity import digest

MOVES = ("timing.json", "provenance.json", MANIFEST)
"""Files that two computations of the same thing may differ in."""


@dataclass
class Joined:
    """What joining one results folder into another did."""

    cells: int = 0
    models: int = 0  # also dictionaries and true circuits
    same: int = 0  # cells and models that were there, with the same content
    conflicts: list[str] = field(default_factory=list)  # what was there was kept
    faults: list[str] = field(default_factory=list)  # damaged, and left out


def join(source: Path, into: Path) -> Joined:
    """Copy what `into` lacks of the runs, models, dictionaries and true circuits of `source`.

    Nothing that is there is changed but the records of runs, which get the cells that are new.
    Raises `HarnessError` if `source` holds no run or is `into` itself.
    """
    if not runs_root(source):
        raise HarnessError(f"{source} holds no run (a folder with {PLAN}); give results folders")
    if source.resolve() == into.resolve():
        raise HarnessError(f"{source} cannot be joined into itself")
    joined = Joined()
    others = _join_models(model_store(source), model_store(into), joined)
    for folder in runs_root(source):
        try:
            _join_run(folder, into / folder.name, others, joined)
        except StoreCorrupt as error:
            joined.faults.append(str(error))
    return joined


# ---------------------------------------------------------------- models
def _join_models(source: ModelStore, into: ModelStore, joined: Joined) -> frozenset[str]:
    """Copy models; returns the ids of those that have another content in both folders."""
    others: set[str] = set()
    kinds = (
        ("model", source, into),
        ("dictionaries", source.dictionaries, into.dictionaries),
        ("true circuit", source.truths, into.truths),
    )
    for word, theirs, ours in kinds:
        for model_id in theirs.ids():
            try:
                theirs.verify(model_id)
                with ours.lock(model_id):
                    if not ours.exists(model_id):
                        draft = ours.draft(model_id)
                        theirs.read(model_id).copy(draft)
                        ours.publish(model_id, draft)
                        joined.models += 1
                        continue
                if _content(ours.read(model_id)) == _content(theirs.read(model_id)):
                    joined.same += 1
                    continue
                others.add(model_id)
                joined.conflicts.append(
                    f"{word} {model_id[:12]} is another in {theirs.root} than in {ours.root}: "
                    "it was trained twice, and the machines round differently"
                )
            except StoreCorrupt as error:
                joined.faults.append(str(error))
    return frozenset(others)


# ---------------------------------------------------------------- runs
def _join_run(source: Path, into: Path, others: frozenset[str], joined: Joined) -> None:
    entries = entries_of(source)
    ours = entries_of(into) if (into / PLAN).is_file() else []
    points = {entry.point: entry for entry in ours}
    wanted = []
    for entry in entries:
        if not is_own(entry):
            raise StoreCorrupt(f"{source / PLAN}: {entry.id[:12]!r} is not the id of its cell")
        there = points.get(entry.point)
        if there is not None and there.id != entry.id:
            joined.conflicts.append(
                f"{_name(entry)} is cell {entry.id[:12]} in {source} and {there.id[:12]} in "
                f"{into}: something that can move the numbers differs (`harness why` shows it); "
                "to compare both, rename one of the runs"
            )
        elif _join_cell(entry, CellStore(source), CellStore(into), others, joined):
            wanted.append(entry)
    if wanted or ours:
        add_entries(into, wanted, skipped_of(source))


def _join_cell(
    entry: PlannedCell,
    source: CellStore,
    into: CellStore,
    others: frozenset[str],
    joined: Joined,
) -> bool:
    """Copy a cell, or why it failed; whether it belongs into the record."""
    used = sorted(others.intersection(_models_of(entry)))
    if used and source.has(entry.id) and not into.has(entry.id):
        joined.conflicts.append(
            f"{_name(entry)}, cell {entry.id[:12]} of {source.folder}, is left out: it was "
            f"computed on the other {used[0][:12]}"
        )
        return False
    try:
        with into.claim(entry.id) as held:
            if not held:
                raise HarnessError(
                    f"cell {entry.id[:12]} is being computed in {into.folder}; merge it later"
                )
            return _join_claimed(entry, source, into, joined)
    except StoreCorrupt as error:
        joined.faults.append(str(error))
        return False


def _join_claimed(entry: PlannedCell, source: CellStore, into: CellStore, joined: Joined) -> bool:
    if not source.has(entry.id):
        failure = source.failure(entry.id)
        if failure is not None and not into.has(entry.id) and into.failure(entry.id) is None:
            into.note_failure(entry.id, failure)
        return True
    source.verify(entry.id)
    if not into.has(entry.id):
        into.adopt(entry.id, source.read(entry.id))
        joined.cells += 1
    elif _content(into.read(entry.id)) == _content(source.read(entry.id)):
        joined.same += 1
    else:
        joined.conflicts.append(
            f"{_name(entry)}, cell {entry.id[:12]}, has other numbers in {source.folder} than in "
            f"{into.folder}: the machines round differently"
        )
    return True


def _models_of(entry: PlannedCell) -> Iterator[str]:
    """Ids of all trained things that a cell's numbers are of."""
    yield entry.model_id
    if (dictionary := entry.identity.get("dictionary")) is not None:
        yield digest(dictionary)


def _name(entry: PlannedCell) -> str:
    return f"{entry.method} on {entry.model}, {entry.task}, seed {entry.seed}"


# ---------------------------------------------------------------- folders
def _content(folder: SealedFolder) -> dict[str, str]:
    """What two computations of the same thing share where numbers are reproducible."""
    return {name: value for name, value in folder.digests.items() if name not in MOVES}
