"""A small hand-made results folder."""

from pathlib import Path
from typing import Any

from harness.runs.plan import Cell, Plan
from harness.runs.store import CellStore
from harness.runs.store.record import StoredCell, load_cells, record
from support.fake_cells import a_cell, a_method, a_task, output

GOOD = {"best": 0.95, "same": 0.9495, "worse": 0.6, "control": 0.1}


def cell_of(method: str, task: str = "toy", seed: int = 0, **changes: Any) -> Cell:
    role = "control" if method == "control" else "method"
    return a_cell(
        a_task(task), a_method(method, good=GOOD.get(method, 0.5)), seed=seed, role=role, **changes
    )


def save(folder: Path, done: list[Cell], failed: list[Cell] = (), missing: list[Cell] = ()) -> None:  # type: ignore[assignment]
    cells = [*done, *failed, *missing]
    record(folder, Plan(folder.name, tuple(cells)))
    store = CellStore(folder)
    for cell in done:
        store.publish(cell.id, output(cell), {})
    for cell in failed:
        store.fail(cell.id, cell.labels(), "it was killed")


def stored(folder: Path, *args: Any) -> list[StoredCell]:
    save(folder, *args)
    return load_cells(folder)
