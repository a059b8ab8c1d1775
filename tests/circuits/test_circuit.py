"""A circuit as an object: its elements, its strongest ones, and its forms in other tools."""

from __future__ import annotations

import pytest
import torch

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.positions import Positions
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.files import save_circuit
from harness.circuits.space import NamedElements
from harness.errors import HarnessError

SPACE = EdgeSpace(Graph(1, 2))
SCORES = {
    "input->a0.h0<q>": 0.5,
    "a0.h0->m0": -2.0,
    "m0->logits": 1.0,
    "a0.h1->logits": -0.25,
    "input->m0": 0.0,
}


def circuit_of(scores: dict[str, float], space: EdgeSpace = SPACE) -> Circuit:
    """A circuit that keeps these edges; all others score 9."""
    kept, values = torch.zeros(len(space), dtype=torch.bool), torch.full((len(space),), 9.0)
    for name, score in scores.items():
        kept[space.index(name)], values[space.index(name)] = True, score
    return Circuit(space, kept, values, 12, {"task": "toy"})


def unscored() -> Circuit:
    return Circuit(SPACE, circuit_of(SCORES).kept)


def test_elements_and_nodes_are_named():
    circuit = circuit_of(SCORES)
    assert set(circuit.elements()) == set(SCORES)
    assert circuit.size == 5
    assert circuit.sparsity == 1 - 5 / len(SPACE)
    assert circuit.nodes() == ["a0.h0", "a0.h1", "m0"]
    pruned = circuit.pruned("interchange")
    assert set(pruned.elements()) == set(SCORES) - {"a0.h1->logits"}  # nothing reaches a0.h1
    assert pruned.nodes() == ["a0.h0", "m0"]
    assert pruned.components() == {"a0.h0": True, "a0.h1": False, "m0": True}
    assert circuit.size == 5  # as it was


def test_the_strongest_are_kept_elements_by_magnitude():
    assert circuit_of(SCORES).strongest(3) == [
        ("a0.h0->m0", -2.0),
        ("m0->logits", 1.0),
        ("input->a0.h0<q>", 0.5),
    ]
    assert len(circuit_of(SCORES).strongest(100)) == 5
    with pytest.raises(HarnessError, match="has no scores"):
        unscored().strongest()


@pytest.mark.parametrize("name", ["c.json", "c.safetensors", "c.pt"])
def test_it_saves_and_loads_itself(tmp_path, name):
    circuit = circuit_of(SCORES)
    circuit.save(str(tmp_path / name))
    again = Circuit.load(tmp_path / name)
    assert again.space == circuit.space
    assert torch.equal(again.kept, circuit.kept)
    assert torch.equal(again.scores, circuit.scores)
    with pytest.raises(HarnessError, match=r"absent\.json"):
        Circuit.load(tmp_path / "absent.json")


def test_a_data_frame_has_a_row_for_every_element_in_the_order_of_files():
    circuit = circuit_of(SCORES)
    frame = circuit.to_dataframe()
    assert frame.columns == ["element", "score", "kept"]
    assert frame["element"].to_list() == [SPACE.name(element) for element in SPACE.listing()]
    kept = frame.filter(frame["kept"])
    assert dict(zip(kept["element"], kept["score"], strict=True)) == SCORES
    assert len(frame) == len(SPACE)
    assert unscored().to_dataframe()["score"].null_count() == len(SPACE)


def test_a_networkx_graph_has_an_edge_for_every_kept_one():
    graph = circuit_of(SCORES).to_networkx()
    edges = {
        data["name"]: (writer, reader, data["reads"], data["score"])
        for writer, reader, data in graph.edges(data=True)
    }
    assert edges == {
        "input->a0.h0<q>": ("input", "a0.h0", "q", 0.5),
        "a0.h0->m0": ("a0.h0", "m0", "", -2.0),
        "m0->logits": ("m0", "logits", "", 1.0),
        "a0.h1->logits": ("a0.h1", "logits", "", -0.25),
        "input->m0": ("input", "m0", "", 0.0),
    }
    assert {data["score"] for *_, data in unscored().to_networkx().edges(data=True)} == {None}


def test_dot_names_nodes_at_their_position():
    space = EdgeSpace(Graph(1, 1, positions=Positions(2, (1,))))
    circuit = circuit_of({"input->a0.h0<k>@0": 1.0, "a0.h0->logits@1": -1.0}, space)
    assert circuit.to_dot().splitlines()[7:-1] == [
        '  "input@0" -> "a0.h0@0" [label="k", color="#0072b2", score="1"];',
        '  "a0.h0@1" -> "logits@1" [color="#c44f00", style=dashed, score="-1"];',
    ]


def test_circuits_without_edges_are_no_graphs_of_networkx():
    circuit = Circuit(NamedElements("head", "heads", ("a0.h0",)), torch.ones(1, dtype=torch.bool))
    with pytest.raises(HarnessError, match="only circuits of edges are graphs, not of heads"):
        circuit.to_networkx()


@pytest.mark.parametrize("name", ["c.pt", "c.json"])
def test_circuits_without_edges_have_no_mib_form(tmp_path, name):
    circuit = Circuit(NamedElements("head", "heads", ("a0.h0",)), torch.ones(1, dtype=torch.bool))
    with pytest.raises(HarnessError, match=r"the MIB form knows edges alone; .* made of heads"):
        save_circuit(circuit, tmp_path / name, mib=True)
    assert not (tmp_path / name).exists()
