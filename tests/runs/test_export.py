"""Circuits of a run in the MIB form: what is written reads back as the same circuit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_cells import a_cell, a_method, a_task, output

from harness.circuits.circuit import Circuit
from harness.circuits.formats import load_circuit, to_safetensors
from harness.circuits.graph import Graph
from harness.errors import HarnessError
from harness.runs.export import MIB_FOLDERS, export_mib, folder_name
from harness.runs.plan import Plan
from harness.runs.record import StoredCell, load_cells, record
from harness.runs.store import CellStore


def circuit_over(graph: Graph, seed: int = 0) -> Circuit:
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(graph.allowed.shape, generator=draw) * graph.allowed
    kept = (scores > 0.5) & graph.allowed
    return Circuit(graph, kept, scores, 12)


def stored(folder: Path, *cells: tuple[str, Circuit], variant: str = "") -> list[StoredCell]:
    made = [
        replace(a_cell(a_task(task), a_method("eap"), seed=0), variant=variant) for task, _ in cells
    ]
    record(folder, Plan(folder.name, tuple(made)))
    store = CellStore(folder)
    for cell, (_, circuit) in zip(made, cells, strict=True):
        good = output(cell)
        tensors = {**good.tensors, "circuit.safetensors": to_safetensors(circuit)}
        store.publish(cell.id, replace(good, tensors=tensors), {})
    return load_cells(folder)


@pytest.mark.parametrize("suffix", [".pt", ".json"])
def test_what_is_exported_reads_back_the_same(tmp_path: Path, suffix: str) -> None:
    circuit = circuit_over(Graph(2, 3))
    cells = stored(tmp_path / "run", ("arc_easy", circuit))
    (one,) = export_mib(cells, "eap", 0, tmp_path / "out", suffix)
    assert one.path == tmp_path / "out" / "arc-easy_arc-easy" / f"importances{suffix}"
    found = load_circuit(one.path)
    assert found.graph == circuit.graph
    assert torch.equal(found.kept, circuit.kept)
    assert torch.equal(found.scores, circuit.scores)
    assert found.d_model == 12
    assert not one.known


def test_groups_are_written_as_heads(tmp_path: Path) -> None:
    circuit = circuit_over(Graph(2, 4, n_groups=2))
    cells = stored(tmp_path / "run", ("ioi", circuit))
    (one,) = export_mib(cells, "eap", 0, tmp_path / "out")
    found = load_circuit(one.path)
    assert found.graph == Graph(2, 4)
    assert float(found.scores.sum()) == pytest.approx(float(circuit.scores.sum()), abs=1e-5)


def test_names_are_those_of_the_board() -> None:
    assert folder_name("arithmetic_addition", "llama3") in MIB_FOLDERS
    assert folder_name("ioi", "qwen2.5") in MIB_FOLDERS
    assert folder_name("ioi_gpt2", "gpt2-small") == "ioi_gpt2"


def test_nothing_is_written_when_something_has_no_mib_form(tmp_path: Path) -> None:
    split = circuit_over(Graph(1, 2, inputs="split"))
    cells = stored(tmp_path / "run", ("good", circuit_over(Graph(1, 2))), ("ioi", split))
    with pytest.raises(HarnessError, match="one writer 'input'"):
        export_mib(cells, "eap", 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_methods_and_clashing_folders_are_user_errors(tmp_path: Path) -> None:
    circuit = circuit_over(Graph(1, 2))
    cells = stored(tmp_path / "run", ("ioi", circuit))
    with pytest.raises(HarnessError, match=r"no finished cell of method .eep.*eap seed 0"):
        export_mib(cells, "eep", 0, tmp_path / "out")
    with pytest.raises(HarnessError, match="two cells would be written to 'ioi_ioi'"):
        export_mib([*cells, *cells], "eap", 0, tmp_path / "out")
