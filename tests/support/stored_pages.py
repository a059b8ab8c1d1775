"""Made-up cells with provenance and circuits that can be read: what a page shows."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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


TOKENS = ("<bos>", "a", "<b>")


def nodes_of_circuit(circuit: Circuit) -> dict[str, Any]:
    """What a cell stores of the nodes of `circuit_of`, with every fifth edge true."""
    names = [circuit.space.name(element) for element in range(len(circuit.space))]
    heads = [name for name in circuit.space.components if ".h" in name]
    pattern = base64.b64encode(bytes([255, 0, 0, 128, 127, 0, 51, 102, 102])).decode()
    return {
        "schema_version": 1,
        "metric": "logit_diff",
        "n": 4,
        "model": 2.0,
        "circuit": 1.5,
        "n_writes": 2,
        "logit_diff": 2.25,
        "problems": {},
        "nodes": [
            {
                "name": name,
                "without": 0.25 * at,
                "model_without": 1.0,
                "writes": 0.5 - at,
                "looks": [[2, 0.4], [1, 0.3]] if name in heads else None,
            }
            for at, name in enumerate(circuit.space.components)
        ],
        "patterns": dict.fromkeys(heads, pattern),
        "example": {
            "row": 0,
            "first": 0,
            "clean": list(TOKENS),
            "corrupted": [*TOKENS[:2], "c"],
            "read": [2],
        },
        "ties": None,
        "carried": None,
        "features": None,
        "trace": None,
        "true": names[::5],
    }


def stored_with_nodes(folder: Path, cell: Cell, circuit: Circuit, nodes: Any) -> list[StoredCell]:
    """A finished cell of a circuit, with `nodes.json`."""
    record(folder, Plan(folder.name, (cell,)))
    made = output(cell)
    files = {
        "circuit.safetensors": to_safetensors(circuit),
        "nodes.json": json.dumps(nodes).encode(),
    }
    CellStore(folder).publish(cell.id, replace(made, tensors={**made.tensors, **files}), PROVENANCE)
    return load_cells(folder)


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
