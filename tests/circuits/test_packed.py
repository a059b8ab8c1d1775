"""Circuits packed into bits come back the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.positions import Positions
from harness.circuits.files import save_circuit
from harness.circuits.packed import pack, unpack
from harness.errors import HarnessError


@pytest.mark.parametrize(
    "graph",
    [
        Graph(1, 1),
        Graph(2, 4, n_groups=2, inputs="split"),
        Graph(2, 2, positions=Positions(5, (4, 2))),
    ],
)
def test_they_read_back_the_same(graph: Graph, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    circuits = [
        (torch.rand(graph.allowed.shape, generator=draw) < share) & graph.allowed
        for share in (0.0, 0.1, 0.5, 1.1)
    ]
    path = tmp_path / "circuits.safetensors"
    path.write_bytes(pack(circuits, graph))
    found_graph, found = unpack(path)
    assert found_graph == graph
    assert found_graph.answers.equal(graph.answers)  # no part of equality
    assert len(found) == len(circuits)
    assert all(torch.equal(a, b) for a, b in zip(found, circuits, strict=True))
    assert pack(found, graph) == path.read_bytes()


def test_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    save_circuit(Circuit(Graph(1, 1), Graph(1, 1).allowed), path)
    with pytest.raises(HarnessError, match="not circuits; its form is None"):
        unpack(path)
