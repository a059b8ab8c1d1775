"""Made-up cells with provenance and circuits that can be read: what a page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.files import to_safetensors
from harness.runs.plan import Cell, Plan
from harness.runs.store import CellStore
from harness.runs.store.record import StoredCell, load_cells, record
from support.fake_cells import output

PROVENANCE = {
    "created": "2026-01-02T03:04:05Z",
    "git": {"commit": "0123456789", "dirty": False},
    "versions": {"harness": "1", "torch": "2", "numpy": "2", "python": "3"},
    "device": "cpu",
    "threads": 1,
    "cores": 2,
    "cpu": "a processor",
}


def circuit_of(seed: int = 0, scored: bool = True) -> Circuit:
    space = EdgeSpace(Graph(2, 2))
    scores = torch.randn(len(space), generator=torch.Generator().manual_seed(seed)).double()
    return Circuit(space, scores.abs() > 1, scores if scored else None, 8, {"task": "toy"})


def stored_with_circuits(
    folder: Path, done: Sequence[Cell], failed: Sequence[Cell] = ()
) -> list[StoredCell]:
    record(folder, Plan(folder.name, (*done, *failed)))
    store = CellStore(folder)
    for cell in done:
        made = output(cell)
        circuit = to_safetensors(circuit_of(cell.seed))
        tensors = {**made.tensors, "circuit.safetensors": circuit}
        store.publish(cell.id, replace(made, tensors=tensors), PROVENANCE)
    for cell in failed:
        store.fail(cell.id, cell.labels(), "it was <b>killed</b>\x1b[2J")
    return load_cells(folder)
