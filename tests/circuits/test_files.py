"""Circuits survive every file form; files of version 1 are read; broken files name themselves."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.mib import to_mib, to_mib_tensors
from harness.circuits.edges.positions import Positions
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.files import (
    FORMAT,
    load_circuit,
    save_circuit,
    space_header,
    to_json,
    to_safetensors,
)
from harness.circuits.select import top_n
from harness.errors import HarnessError


def some_circuit(seed: int = 0, *, scored: bool = True) -> Circuit:
    space = EdgeSpace(Graph(2, 3))
    scores = torch.randn(len(space), generator=torch.Generator().manual_seed(seed))
    kept = space.prune(top_n(scores, 25), "interchange")
    return Circuit(space, kept, scores if scored else None, 12, {"task": "toy"})


def circuit_of_positions() -> Circuit:
    space = EdgeSpace(Graph(1, 2, positions=Positions(3, (0, 2), causal=False)))
    scores = torch.randn(len(space), generator=torch.Generator().manual_seed(1))
    return Circuit(space, top_n(scores, 20), scores, 12, {"task": "toy"})


def same(a: Circuit, b: Circuit) -> bool:
    return (
        a.space == b.space
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
    assert found.space.graph.positions.read == (0, 2)  # not compared with the space
    assert list(found.elements()) == list(circuit.elements())
    assert all(edge[-2:] in ("@0", "@1", "@2") for edge in found.elements())
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


def test_components_are_those_that_kept_edges_touch():
    circuit = some_circuit()
    touched = set()
    for edge in circuit.elements():
        writer, reader = edge.split("->")
        touched |= {writer, reader.split("<")[0]}
    assert {"input", "logits"} < touched  # every circuit has them, so they are no components
    components = {name for name, inside in circuit.components().items() if inside}
    assert components == touched - {"input", "logits"}
    assert list(circuit.components()) == list(circuit.space.graph.writers[1:])


def test_sizes():
    circuit = some_circuit()
    assert circuit.size == len(list(circuit.elements()))
    assert circuit.sparsity == 1 - circuit.size / circuit.space.graph.n_edges
    assert circuit.pruned("interchange").size == circuit.size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["edges"].update({"m9->logits": {"score": 1, "in_graph": True}}), "no edge"),
        (lambda d: d["edges"]["input->m0"].pop("score"), "'score' is missing"),
        (lambda d: d["edges"]["input->m0"].update(score="x"), "score of .* is 'x', not a"),
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


@pytest.mark.parametrize(
    ("field", "message"),
    [("format", "format is 'other'"), ("granularity", "unknown granularity 'other'; known: edge")],
)
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_files_of_another_kind_are_refused(tmp_path, suffix, field, message):
    path = tmp_path / f"c{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps({**to_json(some_circuit()), field: "other"}))
    else:
        header = {**space_header(some_circuit().space), "format": FORMAT, field: "other"}
        kept = some_circuit().kept.to(torch.uint8)
        path.write_bytes(save({"kept": kept}, metadata={"circuit": json.dumps(header)}))
    with pytest.raises(HarnessError, match=message):
        load_circuit(path)


@pytest.mark.parametrize("name", ["kept", "scores"])
def test_tensors_of_another_length_are_refused(tmp_path, name):
    circuit = some_circuit()
    values = getattr(circuit, name)[1:]
    save_circuit(replace(circuit, **{name: values}), tmp_path / "c.safetensors")
    total = len(circuit.space)
    wanted = rf"{name} has shape \({total - 1},\), the space needs \({total},\)"
    with pytest.raises(HarnessError, match=wanted):
        load_circuit(tmp_path / "c.safetensors")


# ---------------------------------------------------------------- version 1
# Edges of one layer with one head: the place of each in a matrix over writers and readers.
PLACES = {
    "input->a0.h0<q>": (0, 0),
    "input->a0.h0<k>": (0, 1),
    "input->a0.h0<v>": (0, 2),
    "input->m0": (0, 3),
    "a0.h0->m0": (1, 3),
    "input->logits": (0, 4),
    "a0.h0->logits": (1, 4),
    "m0->logits": (2, 4),
}
GRAPH_OF_VERSION_1 = {
    "n_layers": 1,
    "n_heads": 1,
    "parallel": False,
    "n_groups": None,
    "inputs": "token",
}
POSITIONS_OF_VERSION_1 = {"count": 2, "read": [1], "causal": True}


class Version1:
    """A circuit as version 1 wrote it, with edges that positions share or with their own."""

    def __init__(self, *, per_token: bool) -> None:
        places = {(edge, ()): place for edge, place in PLACES.items()}
        if per_token:
            places = {(f"{e}@{t}", (t,)): place for t in (0, 1) for e, place in PLACES.items()}
        self.places = {name: (*t, *place) for (name, t), place in places.items()}
        self.scores = {name: number / 4 - 1 for number, name in enumerate(self.places)}
        self.kept = {name: number % 3 == 0 for number, name in enumerate(self.places)}
        graph = dict(GRAPH_OF_VERSION_1)
        if per_token:
            graph["positions"] = POSITIONS_OF_VERSION_1
        self.header = {
            "format": "circuit-harness/circuit/1",
            "granularity": "edge",
            "graph": graph,
            "d_model": 8,
            "source": {"task": "toy"},
        }
        self.shape = (2, 3, 5) if per_token else (3, 5)

    def json(self) -> dict:
        rows = [[name, self.scores[name], self.kept[name]] for name in self.places]
        return {**self.header, "edges": rows}

    def safetensors(self) -> bytes:
        kept, scores = torch.zeros(self.shape, dtype=torch.uint8), torch.zeros(self.shape)
        for name, place in self.places.items():
            kept[place], scores[place] = self.kept[name], self.scores[name]
        note = json.dumps(self.header, sort_keys=True)
        return save({"kept": kept, "scores": scores}, metadata={"circuit": note})


@pytest.mark.parametrize("suffix", [".json", ".json.gz", ".safetensors"])
@pytest.mark.parametrize("per_token", [False, True])
def test_files_of_version_1_are_read(tmp_path, suffix, per_token):
    old, path = Version1(per_token=per_token), tmp_path / f"c{suffix}"
    text = json.dumps(old.json()).encode()
    data = {".json": text, ".json.gz": gzip.compress(text), ".safetensors": old.safetensors()}
    path.write_bytes(data[suffix])
    circuit = load_circuit(path)
    positions = Positions(2, (1,)) if per_token else None
    assert circuit.space == EdgeSpace(Graph(1, 1, positions=positions))
    assert (circuit.d_model, dict(circuit.source)) == (8, {"task": "toy"})
    assert list(circuit.elements()) == [name for name, kept in old.kept.items() if kept]
    names = [circuit.space.name(element) for element in range(len(circuit.space))]
    assert set(names) == set(old.scores)
    assert circuit.scores.tolist() == [old.scores[name] for name in names]
    save_circuit(circuit, tmp_path / "now.json")
    written = json.loads((tmp_path / "now.json").read_text())
    assert written["format"] == FORMAT
    assert written["elements"] == old.json()["edges"]
    assert same(load_circuit(tmp_path / "now.json"), circuit)


def test_files_of_version_1_without_scores_have_none(tmp_path):
    old = Version1(per_token=False).json()
    old["edges"] = [[name, None, kept] for name, _, kept in old["edges"] if kept]
    (tmp_path / "c.json").write_text(json.dumps(old))
    circuit = load_circuit(tmp_path / "c.json")
    assert circuit.scores is None
    assert circuit.size == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(granularity="head"), "granularity is 'head'.*knows edges alone"),
        (lambda d: d["edges"].append(["m9->logits", 1.0, True]), "no edge"),
        (lambda d: d.pop("edges"), "'edges' is missing"),
        (lambda d: d["graph"].pop("n_heads"), "cannot be read as a circuit"),
    ],
)
def test_faulty_files_of_version_1_are_named(tmp_path, change, message):
    data = Version1(per_token=False).json()
    data["graph"] = dict(data["graph"])
    change(data)
    (tmp_path / "broken.json").write_text(json.dumps(data))
    with pytest.raises(HarnessError, match=rf"broken\.json.*{message}"):
        load_circuit(tmp_path / "broken.json")


def test_matrices_of_another_shape_are_refused_in_version_1(tmp_path):
    old = Version1(per_token=False)
    old.header["graph"] = {**GRAPH_OF_VERSION_1, "n_layers": 2}
    (tmp_path / "c.safetensors").write_bytes(old.safetensors())
    with pytest.raises(HarnessError, match=r"has shape \(3, 5\), the space needs \(5, 9\)"):
        load_circuit(tmp_path / "c.safetensors")


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
    assert circuit.space == EdgeSpace(Graph(12, 12))
    assert len(circuit.space) == 32_491
    assert circuit.size == 756
    assert sum(circuit.components().values()) == 79  # of the 81 nodes, all but input and logits
    # It is what remains of the 800 strongest edges without dead ends.
    kept = circuit.space.prune(top_n(circuit.scores, 800), "interchange")
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
