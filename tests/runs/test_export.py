"""Circuits of a run in the MIB form: what is written reads back as the same circuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_cells import SIZES, a_cell, a_method, a_task, output

from harness.circuits.circuit import Circuit
from harness.circuits.formats import load_circuit, to_safetensors
from harness.circuits.graph import Graph
from harness.circuits.packed import pack
from harness.errors import HarnessError
from harness.runs.export import MIB_FOLDERS, export_mib, folder_name
from harness.runs.plan import Plan
from harness.runs.record import StoredCell, load_cells, record
from harness.runs.store import CellStore


def circuit_over(graph: Graph, seed: int = 0, **source: str) -> Circuit:
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(graph.allowed.shape, generator=draw) * graph.allowed
    kept = (scores > 0.5) & graph.allowed
    return Circuit(graph, kept, scores, 12, source)


def stored(
    folder: Path,
    *cells: tuple[str, Circuit],
    variant: str = "",
    sizes: Sequence[torch.Tensor] = (),
) -> list[StoredCell]:
    made = [
        replace(a_cell(a_task(task), a_method("eap"), seed=0), variant=variant) for task, _ in cells
    ]
    record(folder, Plan(folder.name, tuple(made)))
    store = CellStore(folder)
    for cell, (_, circuit) in zip(made, cells, strict=True):
        good = output(cell)
        tensors = {**good.tensors, "circuit.safetensors": to_safetensors(circuit)}
        if sizes:
            tensors["circuits.safetensors"] = pack(sizes, circuit.graph)
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
    """Attribution is shared out over a group's heads, ranks are not."""
    sums = circuit_over(Graph(2, 4, n_groups=2), scores="additive")
    ranks = circuit_over(Graph(2, 4, n_groups=2), scores="ranks")
    cells = stored(tmp_path / "run", ("ioi", sums), ("mcqa", ranks))
    for one, circuit in zip(
        export_mib(cells, "eap", 0, tmp_path / "out"), (sums, ranks), strict=True
    ):
        found = load_circuit(one.path)
        assert found.graph == Graph(2, 4)
        same = float(found.scores.sum()) == pytest.approx(float(circuit.scores.sum()), abs=1e-5)
        assert same == (circuit is sums)
        assert (set(found.scores.unique().tolist()) <= set(circuit.scores.unique().tolist())) == (
            circuit is ranks
        )


def test_a_size_gives_the_circuit_that_was_measured_there(tmp_path: Path) -> None:
    circuit = circuit_over(Graph(2, 3), cut_from="scores made for about 3 edges", scores="ranks")
    draw = torch.Generator().manual_seed(5)
    shape = circuit.kept.shape
    sizes = [(torch.rand(shape, generator=draw) < 0.5) & circuit.graph.allowed for _ in SIZES]
    cells = stored(tmp_path / "run", ("ioi", circuit), sizes=sizes)
    for share, kept in zip(SIZES, sizes, strict=True):
        (one,) = export_mib(cells, "eap", 0, tmp_path / "out", ".json", share)
        found = load_circuit(one.path)
        assert torch.equal(found.kept, kept)
        assert torch.equal(found.scores, kept.float())
        assert one.cut_from == "scores"
    (one,) = export_mib(cells, "eap", 0, tmp_path / "out")
    assert one.cut_from == "scores made for about 3 edges"
    assert torch.equal(load_circuit(one.path).scores, circuit.scores)
    with pytest.raises(
        HarnessError, match=r"no circuit of size 0\.3; its sizes.* 0\.01, 0\.1, 0\.5"
    ):
        export_mib(cells, "eap", 0, tmp_path / "other", size=0.3)
    assert not (tmp_path / "other").exists()


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
