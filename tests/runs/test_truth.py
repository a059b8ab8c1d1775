"""The true circuit of a compiled model is verified once for all that it depends on."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.fake_cells import a_method

from harness.circuits.ground_truth import GroundTruth, NoGroundTruth
from harness.datasets.open import open_data
from harness.datasets.pairs import TaskData
from harness.datasets.program.task import checked_program
from harness.errors import StoreCorrupt
from harness.models.compile.assemble import compile_program
from harness.models.transformer import Transformer
from harness.runs.compute import ground_truth
from harness.runs.compute.cell import compute_cell
from harness.runs.compute.obtain import obtain_model
from harness.runs.compute.prepare import TEST_SEED, Prepared, draw, prepare
from harness.runs.plan import Cell, ModelSource, make_cell
from harness.runs.store.models import ModelStore
from harness.spec.load import Library
from harness.spec.types import CompileModel, Runtime


def a_cell(seed: int = 0, hardness: float = 50.0, limit: int | None = None, **choices: Any) -> Cell:
    """Random scores on a compiled program: what costs time is the truth."""
    task = Library().task("xproportion")
    small = {"sizes": (0.5, 1.0), "discovery_pairs": 16, "test_pairs": 24}
    evaluation = replace(task.spec.evaluation, **{**small, **choices})
    task = replace(task, spec=replace(task.spec, evaluation=evaluation))
    source = ModelSource(CompileModel(hardness=hardness), "compiled", task.folder)
    return make_cell(task, source, a_method("random"), "method", seed, Runtime(threads=1), limit)


def prepared_for(cell: Cell, model: Transformer, data: TaskData, **choices: Any) -> Prepared:
    """The cell's set-ups, with these choices changed after its prompts were drawn."""
    evaluation = replace(cell.task.spec.evaluation, **choices)
    return prepare(model, evaluation, draw(cell, data), device="cpu", seed=cell.seed)


@pytest.fixture
def counted(monkeypatch):
    """The calls of the brute force."""
    calls: list[Any] = []
    real = ground_truth.verify
    monkeypatch.setattr(ground_truth, "verify", lambda *args: calls.append(args) or real(*args))
    return calls


@pytest.fixture
def find(tmp_path, counted):
    """Finds the truth of a cell; returns it and how often it was verified for it."""

    def found(cell: Cell, models: ModelStore | None = None) -> tuple[GroundTruth, int]:
        models, before = models or ModelStore(tmp_path), len(counted)
        data = open_data(cell.task)
        prepared = prepared_for(cell, obtain_model(cell, data, models, print), data)
        pairs = data.pairs("test", cell.task.spec.evaluation.test_pairs, TEST_SEED)
        truth = ground_truth.true_circuit(cell, prepared, pairs, models, print)
        return truth, len(counted) - before

    return found


def test_a_second_cell_reuses_it(find, tmp_path):
    first, verified = find(a_cell())
    assert verified == 1
    cells = [a_cell(seed=1), a_cell(limit=4), a_cell(metric="squared_error")]
    for truth, again in [find(cell) for cell in cells]:
        assert again == 0
        assert truth.space == first.space
        assert torch.equal(truth.kept, first.kept)
        assert torch.equal(truth.effects, first.effects)
        assert (truth.alone, truth.inside) == (first.alone, first.inside)
    assert find(a_cell(), ModelStore(tmp_path / "other"))[1] == 1


@pytest.mark.slow
def test_learned_constants_have_a_truth_for_each_seed_and_metric():
    def key(**choices):
        cell = a_cell(ablation="optimal", **choices)
        data = open_data(cell.task)
        model = compile_program(checked_program(cell.task.spec.data)).model
        prepared = prepared_for(cell, model, data)
        return ground_truth.depends_on(cell, prepared, prepared.drawn.test)

    keys = [key(), key(seed=1), key(metric="squared_error")]
    assert all(one != other for one, other in itertools.combinations(keys, 2))
    assert keys[0]["learned"] == [0, "logit_diff"]


def test_cells_have_the_same_numbers_from_the_store(counted, tmp_path):
    models, lines = ModelStore(tmp_path), []
    one, two = (
        compute_cell(a_cell(), models, lines.append).result["ground_truth"] for _ in range(2)
    )
    assert one == two
    assert one is not None
    assert len(counted) == 1
    assert sum("true circuit" in line for line in lines) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"ablation": "interchange"},
        {"inputs": "summed"},
        {"head_bias": "shared"},
        {"test_pairs": 20},
        {"hardness": 40.0},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_it_depends_on_makes_it_anew(find, changed):
    assert find(a_cell(ablation="zero", inputs="split"))[1] == 1
    assert find(a_cell(**{"ablation": "zero", "inputs": "split", **changed}))[1] == 1


def test_edges_of_each_position_have_a_truth_of_their_own(tmp_path):
    cell, models = a_cell(), ModelStore(tmp_path)
    data = open_data(cell.task)
    model = obtain_model(cell, data, models, print)
    shared, own = (
        prepared_for(cell, model, data, positions=positions) for positions in ("all", "per_token")
    )
    assert len(own.test.space) > len(shared.test.space)
    one, other = (ground_truth.depends_on(cell, which, which.drawn.test) for which in (shared, own))
    assert one != other


def test_a_mean_is_that_of_the_discovery_pairs(find):
    assert find(a_cell(ablation="mean"))[1] == 1
    assert find(a_cell(ablation="mean"))[1] == 0
    assert find(a_cell(ablation="mean", seed=1))[1] == 1


def test_that_there_is_none_is_kept_too(find, monkeypatch):
    def none(*_: Any) -> None:
        raise NoGroundTruth("others stand in")

    with monkeypatch.context() as patch:
        patch.setattr(ground_truth, "verify", none)
        with pytest.raises(NoGroundTruth, match="others stand in"):
            find(a_cell())
    with pytest.raises(NoGroundTruth, match="others stand in"):
        find(a_cell())


def test_a_broken_file_is_named(find, tmp_path):
    find(a_cell())
    (path,) = tmp_path.glob("truths/*/truth.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # the last bit of the last effect: still a truth, but another one
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match=rf"{path.name} is not what was published"):
        find(a_cell())
