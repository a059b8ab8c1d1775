"""Circuits of a run in the MIB form: what is written reads back as the same circuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.fake_cells import SIZES, a_cell, a_method, a_task, output
from support.stored_cells import cell_of
from support.stored_cells import stored as stored_run

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.files import load_circuit, to_safetensors
from harness.circuits.packed import pack
from harness.errors import HarnessError
from harness.runs.plan import Plan
from harness.runs.plan.variants import apart
from harness.runs.services.export import (
    MIB_FOLDERS,
    MIB_LIMITS,
    export_mib,
    export_mib_circuits,
    folder_name,
    too_few,
)
from harness.runs.store import CellStore
from harness.runs.store.record import StoredCell, load_cells, record
from harness.spec.load import Library


def circuit_over(graph: Graph, seed: int = 0, **source: str) -> Circuit:
    draw = torch.Generator().manual_seed(seed)
    space = EdgeSpace(graph)
    scores = space.flat(torch.randn(graph.allowed.shape, generator=draw))
    return Circuit(space, scores > 0.5, scores, 12, source)


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
            tensors["circuits.safetensors"] = pack(sizes, circuit.space)
        store.publish(cell.id, replace(good, tensors=tensors), {})
    return load_cells(folder)


@pytest.mark.parametrize("suffix", [".pt", ".json"])
def test_what_is_exported_reads_back_the_same(tmp_path: Path, suffix: str) -> None:
    circuit = circuit_over(Graph(2, 3))
    cells = stored(tmp_path / "run", ("arc_easy", circuit))
    (one,) = export_mib(cells, "eap", 0, tmp_path / "out", suffix)
    assert one.path == tmp_path / "out" / "arc-easy_arc-easy" / f"importances{suffix}"
    found = load_circuit(one.path)
    assert found.space == circuit.space
    assert torch.equal(found.kept, circuit.kept)
    assert torch.equal(found.scores, circuit.scores)
    assert found.d_model == 12
    assert not one.on_board


def test_groups_are_written_as_heads(tmp_path: Path) -> None:
    """Attribution is shared out over a group's heads, ranks are not."""
    sums = circuit_over(Graph(2, 4, n_groups=2), scores="additive")
    ranks = circuit_over(Graph(2, 4, n_groups=2), scores="ranks")
    cells = stored(tmp_path / "run", ("ioi", sums), ("mcqa", ranks))
    for one, circuit in zip(
        export_mib(cells, "eap", 0, tmp_path / "out"), (sums, ranks), strict=True
    ):
        found = load_circuit(one.path)
        assert found.space == EdgeSpace(Graph(2, 4))
        same = float(found.scores.sum()) == pytest.approx(float(circuit.scores.sum()), abs=1e-5)
        assert same == (circuit is sums)
        assert (set(found.scores.unique().tolist()) <= set(circuit.scores.unique().tolist())) == (
            circuit is ranks
        )


def test_a_size_gives_the_circuit_that_was_measured_there(tmp_path: Path) -> None:
    circuit = circuit_over(Graph(2, 3), cut_from="scores made for about 3 edges", scores="ranks")
    draw = torch.Generator().manual_seed(5)
    sizes = [circuit.space.uniform(draw, torch.float32) < 0.5 for _ in SIZES]
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


@pytest.mark.parametrize("n_groups", [None, 2])
def test_nine_circuits_keep_to_their_limits(tmp_path: Path, n_groups: int | None) -> None:
    """Each is the largest that fits, counted over the heads that the leaderboard knows."""
    graph = Graph(3, 4, n_groups=n_groups)
    circuit = circuit_over(graph, cut_from="scores made for about 3 edges", scores="ranks")
    order = circuit.space.uniform(torch.Generator().manual_seed(1), torch.float32)
    # About 0.9, 10 and 50 % of the edges, and all.
    numbers = [int(share * graph.n_edges) for share in (0.009, 0.1, 0.5, 1)]
    sizes = [order <= order.sort().values[number - 1] for number in numbers]
    cells = stored(tmp_path / "run", ("ioi", circuit), sizes=sizes)
    written = export_mib_circuits(cells, "eap", 0, tmp_path / "out")
    assert [one.path.name for one in written] == [
        f"circuit_{name}.pt" for name in ("0.1", "0.2", "0.5", "1", "2", "5", "10", "20", "50")
    ]
    whole = Graph(3, 4)
    measured = [int(kept.sum()) for kept in sizes]
    for one, limit in zip(written, MIB_LIMITS, strict=True):
        found = load_circuit(one.path)
        assert found.space == EdgeSpace(whole)
        assert found.scores is not None
        assert torch.equal(found.scores, found.kept.float())
        assert one.edges == found.size <= limit * whole.n_edges
        assert one.edges_total == whole.n_edges
        assert one.cut_from == "scores"
        if n_groups is None:
            fitting = [size for size in measured if size <= limit * whole.n_edges]
            assert found.size == (max(fitting) if fitting else 0)
    assert written[0].edges == 0
    assert written[-2].edges > 0


def test_a_submission_has_two_tasks_and_two_models(tmp_path: Path) -> None:
    def written(*folders: str) -> bool:
        cells = stored(tmp_path / "run", ("ioi", circuit_over(Graph(1, 2))))
        (one,) = export_mib(cells, "eap", 0, tmp_path / "out")
        return too_few(
            [
                replace(one, path=tmp_path / name / "importances.pt", on_board=name in MIB_FOLDERS)
                for name in folders
            ]
        )

    assert written("ioi_gpt2")
    assert written("ioi_gpt2", "ioi_llama3")
    assert written("ioi_llama3", "mcqa_llama3")
    assert written("ioi_gpt2", "mine_llama3")
    assert not written("ioi_gpt2", "mcqa_llama3")


def test_names_are_those_of_the_board() -> None:
    library = Library()
    suite = library.suite("mib").spec
    pairs = [(t, m) for t in suite.tasks for m in suite.models if not apart(suite, t, m)]
    folders = {folder_name(task, model) for task, model in pairs}
    assert len(folders) == len(pairs)
    # The rest is ARC, and the model of which the circuit is known.
    assert {one for one in MIB_FOLDERS - folders if not one.startswith("arc-")} == {
        "ioi_interpbench"
    }
    assert folders < MIB_FOLDERS
    assert folder_name("arithmetic_addition", "llama3") in MIB_FOLDERS
    assert folder_name("ioi", "qwen2.5") in MIB_FOLDERS
    assert folder_name("ioi_pretrained", "gpt2-small") == "ioi_gpt2"


def test_nothing_is_written_when_something_has_no_mib_form(tmp_path: Path) -> None:
    split = circuit_over(Graph(1, 2, inputs="split"))
    cells = stored(tmp_path / "run", ("good", circuit_over(Graph(1, 2))), ("ioi", split))
    with pytest.raises(HarnessError, match="one writer 'input'"):
        export_mib(cells, "eap", 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_smoke_run_is_not_called_unfinished(tmp_path: Path) -> None:
    cells = stored_run(tmp_path / "run", [cell_of("eap", limit=4)])
    with pytest.raises(HarnessError, match=r"with seed 0 are of a smoke run .*without --limit"):
        export_mib(cells, "eap", 0, tmp_path / "out")
    with pytest.raises(HarnessError, match=r"no finished cell of method 'acdc' with seed 0"):
        export_mib(cells, "acdc", 0, tmp_path / "out")


def test_unknown_methods_and_clashing_folders_are_user_errors(tmp_path: Path) -> None:
    circuit = circuit_over(Graph(1, 2))
    cells = stored(tmp_path / "run", ("ioi", circuit))
    with pytest.raises(HarnessError, match=r"no finished cell of method .eep.*eap seed 0"):
        export_mib(cells, "eep", 0, tmp_path / "out")
    with pytest.raises(HarnessError, match="two cells would be written to 'ioi_ioi'"):
        export_mib([*cells, *cells], "eap", 0, tmp_path / "out")
