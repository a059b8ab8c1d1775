"""Circuits survive every file form; broken files name themselves."""

from __future__ import annotations

import gzip
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.positions import Positions
from harness.circuits.edges.select import prune, top_n
from harness.circuits.files import (
    load_circuit,
    save_circuit,
    to_mib,
    to_mib_tensors,
    to_safetensors,
)
from harness.errors import HarnessError


def some_circuit(seed: int = 0, *, scored: bool = True) -> Circuit:
    graph = Graph(2, 3)
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(graph.allowed.shape, generator=draw) * graph.allowed
    kept = prune(top_n(scores, graph, 25), graph, "interchange")
    return Circuit(graph, kept, scores if scored else None, 12, {"task": "toy"})


def circuit_of_positions() -> Circuit:
    graph = Graph(1, 2, positions=Positions(3, (0, 2), causal=False))
    scores = torch.randn(graph.allowed.shape, generator=torch.Generator().manual_seed(1))
    kept = top_n(scores, graph, 20)
    return Circuit(graph, kept, scores * graph.allowed, 12, {"task": "toy"})


def same(a: Circuit, b: Circuit) -> bool:
    return (
        a.graph == b.graph
        and torch.equal(a.kept, b.kept)
        and (a.scores is None) == (b.scores is None)
        and (a.scores is None or torch.equal(a.scores, b.scores))
        and a.d_model == b.d_model
    )


@pytest.mark.parametrize("name", ["c.safetensors", "c.json", "c.json.gz", "c.pt"])
@pytest.mark.parametrize("mib", [False, True])
def test_round_trip(tmp_path, name, mib):
    circuit = some_circuit()
    save_circuit(circuit, tmp_path / name, mib=mib)
    assert same(load_circuit(tmp_path / name), circuit)


@pytest.mark.parametrize("name", ["c.safetensors", "c.json"])
def test_our_forms_keep_missing_scores_and_the_source(tmp_path, name):
    circuit = some_circuit(scored=False)
    save_circuit(circuit, tmp_path / name)
    found = load_circuit(tmp_path / name)
    assert same(found, circuit)
    assert dict(found.source) == {"task": "toy"}


@pytest.mark.parametrize("name", ["c.safetensors", "c.json", "c.json.gz"])
def test_our_forms_keep_edges_of_each_position(tmp_path, name):
    circuit = circuit_of_positions()
    save_circuit(circuit, tmp_path / name)
    found = load_circuit(tmp_path / name)
    assert same(found, circuit)
    assert found.graph.positions.read == (0, 2)  # not compared with the graph
    assert list(found.edges()) == list(circuit.edges())
    assert all(edge[-2:] in ("@0", "@1", "@2") for edge in found.edges())
    assert same(found.pruned("interchange"), circuit.pruned("interchange"))


@pytest.mark.parametrize(("name", "mib"), [("c.json", True), ("c.pt", False)])
def test_edges_of_each_position_have_no_mib_form(tmp_path, name, mib):
    with pytest.raises(HarnessError, match=r"3 positions.*per_token.*\.json or \.safetensors"):
        save_circuit(circuit_of_positions(), tmp_path / name, mib=mib)
    assert not (tmp_path / name).exists()


def test_a_file_of_shared_edges_does_not_speak_of_positions():
    """So that its bytes are what they were."""
    assert b"positions" not in to_safetensors(some_circuit())


def test_bytes_are_stable():
    assert to_safetensors(some_circuit()) == to_safetensors(some_circuit())


def test_mib_form_without_scores_says_one_or_zero():
    edges = to_mib(some_circuit(scored=False))["edges"]
    assert {(e["score"], e["in_graph"]) for e in edges.values()} == {(1.0, True), (0.0, False)}


def test_nodes_are_those_that_kept_edges_touch():
    circuit = some_circuit()
    touched = set()
    for edge in circuit.edges():
        writer, reader = edge.split("->")
        touched |= {writer, reader.split("<")[0]}
    assert touched == {name for name, inside in circuit.nodes().items() if inside}


def test_sizes():
    circuit = some_circuit()
    assert circuit.size == len(list(circuit.edges()))
    assert circuit.sparsity == 1 - circuit.size / circuit.graph.n_edges
    assert circuit.pruned("interchange").size == circuit.size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["edges"].update({"m9->logits": {"score": 1, "in_graph": True}}), "no edge"),
        (lambda d: d["edges"]["input->m0"].pop("score"), "'score' is missing"),
        (lambda d: d["edges"]["input->m0"].update(score="x"), "cannot be read"),
        (lambda d: d["cfg"].pop("n_heads"), "'n_heads' is missing"),
        (lambda d: d.pop("edges"), "'edges' is missing"),
        (lambda d: d["edges"]["input->m0"].update(score=None), "score of input->m0 is null"),
        (lambda d: d["edges"]["input->m0"].update(in_graph="false"), "in the graph or not"),
        (lambda d: d["edges"].update({"input->m00": d["edges"]["input->m0"]}), "no edge"),
    ],
)
def test_faulty_mib_files_are_named(tmp_path, change, message):
    data = to_mib(some_circuit())
    change(data)
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(data))
    with pytest.raises(HarnessError, match=rf"broken\.json.*{message}"):
        load_circuit(path)


def test_scores_that_are_no_numbers_are_refused(tmp_path):
    data = to_mib(some_circuit())
    data["edges"]["input->m0"]["score"] = float("nan")
    path = tmp_path / "nan.json"
    path.write_text(json.dumps(data))
    with pytest.raises(HarnessError, match="not a number"):
        load_circuit(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["src_nodes"].reverse(), "src_nodes are not the nodes"),
        (lambda d: d["edges_scores"].fill_(torch.nan), "not numbers"),
        (lambda d: d.update(edges_in_graph=torch.ones(2, 2)), "has shape"),
    ],
)
def test_faulty_pt_files_are_named(tmp_path, change, message):
    data = to_mib_tensors(some_circuit())
    change(data)
    torch.save(data, tmp_path / "broken.pt")
    with pytest.raises(HarnessError, match=rf"broken\.pt.*{message}"):
        load_circuit(tmp_path / "broken.pt")


@pytest.mark.parametrize("field", ["format", "granularity"])
def test_files_of_another_kind_are_refused(tmp_path, field):
    save_circuit(some_circuit(), tmp_path / "c.json")
    data = json.loads((tmp_path / "c.json").read_text())
    (tmp_path / "c.json").write_text(json.dumps({**data, field: "other"}))
    with pytest.raises(HarnessError, match=f"{field} is 'other'"):
        load_circuit(tmp_path / "c.json")


@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_a_user_error(data):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        for name in ("x.safetensors", "x.json", "x.json.gz", "x.pt", "x.txt"):
            path = Path(folder) / name
            path.write_bytes(data)
            with pytest.raises(HarnessError, match=r"x\."):
                load_circuit(path)


def test_published_circuit_loads_and_its_selection_is_reproduced(reference_file, tmp_path):
    path = reference_file("mib/ioi_eap_ig_example.json.gz")
    circuit = load_circuit(path)
    assert circuit.graph == Graph(12, 12)
    assert circuit.graph.n_edges == 32_491
    assert circuit.size == 756
    assert sum(circuit.nodes().values()) == 81
    # It is what remains of the 800 strongest edges without dead ends.
    kept = prune(top_n(circuit.scores, circuit.graph, 800), circuit.graph, "interchange")
    assert torch.equal(kept, circuit.kept)
    wanted = json.loads(gzip.decompress(path.read_bytes()))
    written = to_mib(circuit)
    assert list(written["edges"]) == list(wanted["edges"])
    assert {n: v["in_graph"] for n, v in written["nodes"].items()} == {
        n: v["in_graph"] for n, v in wanted["nodes"].items()
    }
    save_circuit(circuit, tmp_path / "again.json", mib=True)
    assert same(load_circuit(tmp_path / "again.json"), circuit)
    save_circuit(circuit, tmp_path / "again.pt")
    assert same(load_circuit(tmp_path / "again.pt"), circuit)
