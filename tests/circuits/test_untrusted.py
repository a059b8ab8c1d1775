"""Circuit files that say more than they hold: refused in a line, before memory is taken."""

from __future__ import annotations

import gzip
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from harness.circuits import untrusted
from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.mib import to_mib, to_mib_tensors
from harness.circuits.edges.positions import Positions
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.files import load_circuit, to_json, to_safetensors
from harness.errors import HarnessError

Change = Callable[[dict[str, Any]], object]


def some_circuit(positions: Positions | None = None) -> Circuit:
    space = EdgeSpace(Graph(1, 2, positions=positions))
    scores = torch.linspace(-1, 1, len(space))
    return Circuit(space, scores > 0.2, scores, 12, {"task": "toy"})


def refusal(path: Path) -> str:
    began = time.process_time()
    with pytest.raises(HarnessError) as caught:
        load_circuit(path)
    assert time.process_time() - began < 5
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def changed_json(folder: Path, change: Change, *, mib: bool = False) -> str:
    data = json.loads(json.dumps(to_mib(some_circuit()) if mib else to_json(some_circuit())))
    change(data)
    path = folder / "c.json"
    path.write_text(json.dumps(data))
    return refusal(path)


# ---------------------------------------------------------------- spaces
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_layers": 1_000_000}, "a graph of 1,000,000 layers with 2 heads is too large"),
        ({"n_layers": 10**30}, "is too large to be read from this form"),
        ({"n_layers": 3000}, "a graph of 3,000 layers"),
        ({"n_heads": 100_000}, "with 100,000 heads is too large"),
        ({"n_layers": 0}, "n_layers is 0, not at least 1"),
        ({"n_layers": -3}, "n_layers is -3, not at least 1"),
        ({"n_layers": True}, "n_layers is True, not a whole number"),
        ({"n_layers": 1.5}, "n_layers is 1.5, not a whole number"),
        ({"n_layers": "1"}, "n_layers is '1', not a whole number"),
        ({"n_groups": 0}, "n_groups is 0, not at least 1"),
        ({"n_heads": 3, "n_groups": 2}, "n_groups = 2 does not divide n_heads = 3"),
        ({"inputs": "all"}, "inputs is 'all', not one of token"),
        ({"inputs": ["token"]}, "inputs is ['token'], not one of token"),
        ({"parallel": "no"}, "parallel is 'no', not true or false"),
        ({"floors": 2}, "floors is unknown"),
        ({"positions": {"count": 10**9, "read": [0]}}, "at 1,000,000,000 positions is too large"),
        ({"positions": {"count": 2, "read": [2]}}, "positions.read has 2, and there are 2"),
        ({"positions": {"count": 0, "read": []}}, "positions.count is 0, not at least 1"),
        ({"positions": {"count": 2}}, "positions.read is missing"),
    ],
    ids=str,
)
def test_graphs_that_cannot_be(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    assert message in changed_json(tmp_path, lambda data: data["space"].update(change))
    header = {**to_json(some_circuit()), "elements": None}
    header["space"] = {**header["space"], **change}
    kept = some_circuit().kept.to(torch.uint8)
    path = tmp_path / "c.safetensors"
    path.write_bytes(save({"kept": kept}, metadata={"circuit": json.dumps(header)}))
    assert message in refusal(path)


def test_graphs_of_mib_files(tmp_path: Path) -> None:
    def layers(data: dict[str, Any]) -> None:
        data["cfg"]["n_layers"] = 1_000_000

    assert "1,000,000 layers" in changed_json(tmp_path, layers, mib=True)
    data = to_mib_tensors(some_circuit())
    layers(data)
    torch.save(data, tmp_path / "c.pt")
    assert "1,000,000 layers" in refusal(tmp_path / "c.pt")


def test_a_large_graph_can_be_read_from_a_file_that_holds_its_edges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is for files that need not list the edges; a run must read what it has written."""
    monkeypatch.setattr(untrusted, "MOST_CELLS", 10)
    path = tmp_path / "c.safetensors"
    circuit = some_circuit(Positions(3, (2,)))
    path.write_bytes(to_safetensors(circuit))
    assert torch.equal(load_circuit(path).scores, circuit.scores)
    (tmp_path / "c.json").write_text(json.dumps(to_json(circuit)))
    assert "too large to be read from this form" in refusal(tmp_path / "c.json")


# ---------------------------------------------------------------- expansion
def test_gzip_that_expands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert untrusted.MOST_BYTES == 256 << 20
    monkeypatch.setattr(untrusted, "MOST_BYTES", 8 << 20)
    path = tmp_path / "c.json.gz"
    path.write_bytes(gzip.compress(b" " * (9 << 20), compresslevel=1))
    assert path.stat().st_size < 1 << 20
    assert refusal(path) == "holds more than 8 MiB of JSON; use .safetensors"


def test_json_of_many_small_values(tmp_path: Path) -> None:
    """Each takes 64 bytes of memory where it has three in the file."""
    path = tmp_path / "c.json.gz"
    path.write_bytes(gzip.compress(b'{"edges": [' + b"[]," * 8_000_000, compresslevel=1))
    assert refusal(path) == "holds more than 8,000,000 values of JSON; use .safetensors"


def test_pt_that_expands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert untrusted.MOST_TENSOR_BYTES == 512 << 20
    monkeypatch.setattr(untrusted, "MOST_TENSOR_BYTES", 8 << 20)
    path = tmp_path / "c.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as parts:
        parts.writestr("archive/data.pkl", b"\0" * (9 << 20))
    assert refusal(path) == "holds more than 8 MiB of tensors"


def test_tensors_that_say_more_than_they_hold(tmp_path: Path) -> None:
    data = to_mib_tensors(some_circuit())
    data["edges_in_graph"] = torch.zeros(1).expand(100_000, 1_000_000)
    torch.save(data, tmp_path / "c.pt")
    assert refusal(tmp_path / "c.pt").startswith("edges_in_graph has shape (100000, 1000000)")
    place = torch.zeros(2, 1, dtype=torch.long)
    data["edges_in_graph"] = torch.sparse_coo_tensor(place, torch.ones(1), (10**6, 10**6))
    torch.save(data, tmp_path / "c.pt")
    assert refusal(tmp_path / "c.pt") == "edges_in_graph is not a dense tensor"


# ---------------------------------------------------------------- values
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["elements"].append(d["elements"][0]), "is listed twice"),
        (lambda d: d["elements"].append(["input->m0", 1.0]), "is not [name, score, kept]"),
        (lambda d: d["elements"].append([7, 1.0, True]), "an element is called 7"),
        (lambda d: d["elements"][0].__setitem__(1, 1e300), "is 1e+300, not a number"),
        (lambda d: d["elements"][0].__setitem__(1, 10**60), "not a number"),
        (lambda d: d["elements"][0].__setitem__(1, True), "is true, not a number"),
        (lambda d: d["elements"][0].__setitem__(2, 1), "must be in the graph or not, not 1"),
        (lambda d: d.update(elements={}), "elements is not a list"),
        (lambda d: d.update(d_model=-1), "d_model is -1, not a whole number"),
        (lambda d: d.update(d_model="64"), "d_model is '64', not a whole number"),
        (lambda d: d.update(source=[]), "source is not a mapping of texts"),
        (lambda d: d.update(source={"task": 1}), "source is not a mapping of texts"),
        (lambda d: d["elements"][0].__setitem__(0, "a" * 10**6 + "\x1b[2J"), "…"),
        (lambda d: d["elements"][0].__setitem__(0, f"a{'9' * 5000}.h0->logits"), "cannot be read"),
    ],
)
def test_values_that_cannot_be(tmp_path: Path, change: Change, message: str) -> None:
    text = changed_json(tmp_path, change)
    assert message in text
    assert len(text) < 600
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"cfg": {}, "edges": {"a": 1, "a": 2}}', "cannot be read as a circuit: key 'a' stands"),
        ('{"format": ' + "9" * 5000 + "}", "an integer of 5000 digits"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "not a circuit: its JSON is no object"),
        ('{"format": 1,\n "a" 1}', "not JSON: Expecting ':' delimiter at line 2, column 6"),
        ("\udcff", "cannot be read as a circuit"),
    ],
    ids=lambda value: value[:16],
)
def test_text_that_is_no_circuit(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert message in refusal(path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"scores": torch.full((13,), torch.nan)}, "scores hold values that are not numbers"),
        ({"scores": torch.ones(13, dtype=torch.long)}, "scores hold values that are not numbers"),
        ({"kept": torch.ones(13)}, "kept is of type torch.float32, not uint8"),
    ],
    ids=["NaN", "integers", "floats"],
)
def test_tensors_of_the_wrong_kind(
    tmp_path: Path, tensors: dict[str, torch.Tensor], message: str
) -> None:
    circuit = some_circuit()
    assert len(circuit.space) == 13
    note = json.dumps({k: v for k, v in to_json(circuit).items() if k != "elements"})
    held = {"kept": circuit.kept.to(torch.uint8), "scores": circuit.scores, **tensors}
    path = tmp_path / "c.safetensors"
    path.write_bytes(save(held, metadata={"circuit": note}))
    assert refusal(path) == message
