"""Circuits packed into bits come back the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.positions import Positions
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.files import save_circuit
from harness.circuits.packed import pack, unpack
from harness.errors import HarnessError

GRAPHS = [
    Graph(1, 1),
    Graph(2, 4, n_groups=2, inputs="split"),
    Graph(2, 2, positions=Positions(5, (4, 2))),
]


def some_circuits(space: EdgeSpace) -> list[torch.Tensor]:
    """From the empty one to the whole model."""
    draw = torch.Generator().manual_seed(0)
    return [torch.rand(len(space), generator=draw) < share for share in (0.0, 0.1, 0.5, 1.1)]


@pytest.mark.parametrize("graph", GRAPHS)
def test_they_read_back_the_same(graph: Graph, tmp_path: Path) -> None:
    space = EdgeSpace(graph)
    circuits, path = some_circuits(space), tmp_path / "circuits.safetensors"
    path.write_bytes(pack(circuits, space))
    read_space, read = unpack(path)
    assert read_space == space
    assert isinstance(read_space, EdgeSpace)
    assert read_space.graph.answers.equal(graph.answers)  # no part of equality
    assert len(read) == len(circuits)
    assert all(torch.equal(a, b) for a, b in zip(read, circuits, strict=True))
    assert pack(read, space) == path.read_bytes()


@pytest.mark.parametrize("positions", [None, {"count": 2, "read": [1], "causal": True}])
def test_files_of_version_1_are_read(positions: dict[str, object] | None, tmp_path: Path) -> None:
    """Version 1 wrote the allowed edges of its matrices row by row: the order of the elements."""
    graph: dict[str, object] = {
        "n_layers": 1,
        "n_heads": 1,
        "parallel": False,
        "n_groups": None,
        "inputs": "token",
    }
    if positions:
        graph["positions"] = positions
    allowed = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]], dtype=bool)
    allowed = np.stack([allowed, allowed]) if positions else allowed
    circuits = np.random.default_rng(0).random((3, *allowed.shape)) < 0.5
    bits = np.packbits(np.ascontiguousarray(circuits[:, allowed]), axis=1)
    note = json.dumps({"format": "circuit-harness/circuits/1", "graph": graph}, sort_keys=True)
    path = tmp_path / "circuits.safetensors"
    path.write_bytes(save({"kept": bits}, metadata={"circuits": note}))
    space, read = unpack(path)
    assert space == EdgeSpace(Graph(1, 1, positions=Positions(2, (1,)) if positions else None))
    assert isinstance(space, EdgeSpace)
    for kept, matrix in zip(read, circuits & allowed, strict=True):
        np.testing.assert_array_equal(space.matrix(kept).numpy(), matrix)


def test_another_form_is_refused(tmp_path: Path) -> None:
    path, space = tmp_path / "one.safetensors", EdgeSpace(Graph(1, 1))
    save_circuit(Circuit(space, torch.ones(len(space), dtype=torch.bool)), path)
    with pytest.raises(HarnessError, match="not circuits; its form is None"):
        unpack(path)


@pytest.mark.parametrize("graph", [Graph(1, 2), Graph(2, 2)])
def test_bits_of_another_space_are_refused(graph: Graph, tmp_path: Path) -> None:
    """Too few bits would otherwise be read as elements that are not kept."""
    path, space = tmp_path / "circuits.safetensors", EdgeSpace(Graph(1, 1))
    other = EdgeSpace(graph)
    note = json.dumps(
        {
            "format": "circuit-harness/circuits/2",
            "granularity": "edge",
            "space": other.header(),
        }
    )
    bits = np.packbits(np.ones((2, len(space)), dtype=bool), axis=1)
    path.write_bytes(save({"kept": bits}, metadata={"circuits": note}))
    with pytest.raises(HarnessError, match=rf"{len(other)} edges"):
        unpack(path)
