"""Circuits as a user names them: a file, a finished cell, or all cells of a method in a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.circuits.circuit import Circuit
from harness.circuits.files import load_circuit
from harness.errors import HarnessError, NotFound
from harness.runs.store import CellStore
from harness.runs.store.circuits import stored_circuit
from harness.runs.store.record import PlannedCell, by_beginning, entries_of, find_run, runs_root
from harness.spec.build import build
from harness.spec.types import Evaluation


@dataclass(frozen=True)
class NamedCircuit:
    """A circuit, the name the user gave it, and the cell it comes from, if any."""

    circuit: Circuit
    name: str
    entry: PlannedCell | None = None


def find_circuit(results: Path, reference: str, size: float | None = None) -> NamedCircuit:
    """A circuit by file, by the beginning of a cell's id, or by `run:cell`.

    With `size`, the circuit of a cell that was measured at this share of the edges. Raises
    `NotFound` if nothing matches, `HarnessError` for a broken file, if several do, or if no
    circuit of that size was measured, `StoreCorrupt` if the cell is not what was published.
    """
    if Path(reference).is_file():
        return NamedCircuit(load_circuit(Path(reference)), reference)
    run, _, cell = reference.rpartition(":")
    folders = [find_run(results, run)] if run else runs_root(results)
    stored = {
        cell_id: (folder, cell_id) for folder in folders for cell_id in CellStore(folder).ids()
    }
    folder, cell_id = by_beginning(stored, cell, _missing(reference, results))
    return _stored(folder, cell_id, size)


def evaluation_of(entry: PlannedCell) -> Evaluation:
    """The choices that a cell was computed under; a suite may have changed its task's."""
    stored = entry.identity["task"]["evaluation"]
    # No sizes: counts or targets say how large circuits are.
    return build(Evaluation, {name: x for name, x in stored.items() if x or name != "sizes"})


def _stored(folder: Path, cell_id: str, size: float | None) -> NamedCircuit:
    store = CellStore(folder)
    store.verify(cell_id)
    circuit = stored_circuit(store, cell_id, size)
    entry = next((entry for entry in entries_of(folder) if entry.id == cell_id), None)
    return NamedCircuit(circuit, f"{folder.name}:{cell_id[:12]}", entry)


def find_circuits(
    results: Path,
    reference: str,
    size: float | None = None,
    task: str | None = None,
    variant: str | None = None,
) -> list[NamedCircuit]:
    """As `find_circuit`; `run:method` gives those of all finished cells of the method, by seed.

    They are of one task, model and evaluation of a suite; `task` and `variant` choose among
    several. Smoke cells are used only where there are no complete ones. Raises as `find_circuit`,
    and `HarnessError` for cells of several.
    """
    run, _, method = reference.rpartition(":")
    if not run or Path(reference).is_file():
        return [find_circuit(results, reference, size)]
    folder = find_run(results, run)
    entries = [
        entry
        for entry in entries_of(folder)
        if entry.method == method
        and task in (None, entry.task)
        and variant in (None, entry.variant)
        and CellStore(folder).has(entry.id)
    ]
    if not entries:
        stored = CellStore(folder).ids()
        if not any(method and cell_id.startswith(method) for cell_id in stored):
            raise NotFound(_none_of(reference, folder, task, variant))
        return [find_circuit(results, reference, size)]
    _one_place(reference, entries)
    full = [entry for entry in entries if entry.limit is None]
    ordered = sorted(full or entries, key=lambda entry: entry.seed)
    return [_stored(folder, entry.id, size) for entry in ordered]


def _missing(reference: str, results: Path) -> str:
    """What a reference that names nothing was looked for as."""
    run, _, cell = reference.rpartition(":")
    if Path(reference).suffix in (".json", ".gz", ".pt", ".safetensors"):
        return f"there is no circuit file {reference}"
    if not run:
        return (
            f"{reference!r} is neither a circuit file nor the beginning of the id of a finished "
            f"cell in {results}; `harness status` lists cells"
        )
    return (
        f"run {run!r} has no finished cell whose id begins with {cell!r}; "
        f"`harness status {run}` lists them"
    )


def _none_of(reference: str, folder: Path, task: str | None, variant: str | None) -> str:
    """Why a run has no circuits of RUN:METHOD."""
    name = reference.rpartition(":")[2]
    entries, store = entries_of(folder), CellStore(folder)
    planned = [entry for entry in entries if entry.method == name]
    at = "".join(
        f" with {option} {value}"
        for option, value in (("--task", task), ("--variant", variant))
        if value is not None
    )
    finished = sorted({entry.method for entry in entries if store.has(entry.id)})
    has = f"it has finished cells of {', '.join(finished)}" if finished else "it has none yet"
    if planned and not any(store.has(entry.id) for entry in planned):
        return f"no cell of method {name!r} of run {folder.name!r} is finished; {has}"
    return (
        f"run {folder.name!r} has neither a method called {name!r}{at} nor a finished cell whose "
        f"id begins so; {has}"
    )


def _one_place(reference: str, entries: Iterable[PlannedCell]) -> None:
    """Refuse to mix cells that measure different things."""
    places = sorted({(entry.task, entry.model, entry.variant) for entry in entries})
    if len(places) > 1:
        listed = "; ".join(
            f"{task} on {model} {variant}".strip() for task, model, variant in places
        )
        raise HarnessError(
            f"{reference!r} has circuits of {len(places)} tasks, models or evaluations ({listed}); "
            "choose one with --task or --variant, or name cells"
        )
