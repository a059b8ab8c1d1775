"""Searches that should fail: their cells, the table they stand in, what is measured of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.fake_cells import FakeLibrary, a_method, a_suite, a_task, loaded, output

from harness.errors import HarnessError
from harness.models.checkpoint import load_model
from harness.models.config import TransformerConfig
from harness.models.transformer import random_model
from harness.reports.leaderboard import leaderboard
from harness.runs.compute.cell import compute_cell
from harness.runs.plan import ModelSource, Overrides, Plan, expand
from harness.runs.plan.control_searches import control_cell
from harness.runs.store import CellStore
from harness.runs.store.models import ModelStore
from harness.runs.store.record import entries_of, load_cells, record
from harness.spec.types import CircuitTarget, EvaluationChange, LoadModel, Sparsity

ALL = ("swapped", "nonsense", "untrained")


def planned(task: Any = None, method: Any = None, **changes: Any) -> Plan:
    task = task or a_task(evaluation=replace(a_task().evaluation, ablation="zero"))
    method = method or a_method()
    suite = a_suite([task], [method], **{"control_searches": ALL, **changes})
    return expand(loaded(suite), FakeLibrary(task, method))  # type: ignore[arg-type]


def test_every_search_of_a_method_is_repeated_where_it_should_fail():
    plan = planned(seeds=(0, 1), evaluations=(EvaluationChange(metric="prob_diff"),))
    host, *controls = plan.cells[:4]
    assert [cell.method.name for cell in plan.cells] == [
        name for _ in range(2) for name in ("eap", *(f"eap, {one}" for one in ALL))
    ]
    swapped, nonsense, untrained = controls
    for cell, answers in ((swapped, "swapped"), (nonsense, "nonsense")):
        evaluation = cell.identity["task"]["evaluation"]
        assert evaluation.pop("answers") == answers
        assert cell.identity == {**host.identity, "task": cell.identity["task"]}
        assert evaluation == host.identity["task"]["evaluation"]
        assert cell.model_id == host.model_id
    assert untrained.model_id != host.model_id
    assert untrained.identity["task"] == host.identity["task"]
    assert {(cell.role, cell.variant) for cell in controls} == {("control", "metric prob_diff")}
    none = planned(control_searches=())
    assert [cell.id for cell in none.cells] == [planned().cells[0].id]
    assert not none.cells[0].beside


def test_the_command_line_chooses_control_searches():
    task, method = a_task(), a_method()
    suite = loaded(a_suite([task], [method], control_searches=ALL))
    library: Any = FakeLibrary(task, method)
    for chosen in ((), ("nonsense",)):
        cells = expand(suite, library, Overrides(control_searches=chosen)).cells
        assert len(cells) == 1 + len(chosen)


def test_controls_that_say_nothing_are_refused():
    with pytest.raises(HarnessError, match="'swapped' under ablation 'interchange' always"):
        planned(a_task())
    with pytest.raises(HarnessError, match="control itself, for nonsense answers"):
        planned(evaluations=(EvaluationChange(answers="nonsense"),), control_searches=("swapped",))
    here = a_task(evaluation=replace(a_task().evaluation, ablation="zero"))
    host = planned(here, control_searches=()).cells[0]
    source = ModelSource(LoadModel(path="nowhere"), "loaded", Path())
    with pytest.raises(HarnessError, match="'untrained': model 'loaded' is not trained from a"):
        control_cell(host, source, "untrained")


def test_controls_stand_in_the_table_of_what_they_repeat(tmp_path: Path):
    plan = planned(a_task(evaluation=replace(a_task().evaluation, ablation="zero")))
    record(tmp_path, plan)
    store = CellStore(tmp_path)
    for cell in plan.cells:
        store.publish(cell.id, output(cell), {})
    cells = load_cells(tmp_path)
    (board,) = leaderboard(cells).boards
    kinds = [(line.kind, line.method) for line in board.lines]
    assert [name for kind, name in kinds if kind == "method"] == ["eap"]
    assert sorted(x for kind, x in kinds if kind == "control") == sorted(f"eap, {x}" for x in ALL)
    assert board.facts is not None
    assert "answers" not in board.facts["identity"]["task"]["evaluation"]
    # Without the cell that they repeat nothing says what the table is of.
    (alone,) = leaderboard([cell for cell in cells if cell.entry.beside]).boards
    assert alone.facts is None
    assert [line.seeds_done for line in alone.lines] == [0, 0, 0]


def test_records_without_control_searches_are_read(tmp_path: Path):
    record(tmp_path, planned(control_searches=()))
    (entry,) = entries_of(tmp_path)
    assert entry.beside == ""


# ---------------------------------------------------------------- whole cells
MEASURES = ("task_loss", "necessity", "calibrated_necessity", "random_necessity")


def computed(cell: Any, models: ModelStore, folder: Path) -> dict[str, Any]:
    store = CellStore(folder)
    store.publish(cell.id, compute_cell(cell, models, lambda text: None), {})
    result = json.loads((folder / "cells" / cell.id / "result.json").read_bytes())
    assert isinstance(result, dict)
    return result


def test_what_the_model_needs_is_told_by_the_tasks_own_answers(tmp_path: Path):
    """Of the whole model as a circuit: without it all is lost, whatever it was searched for."""
    task = a_task()
    evaluation = replace(
        task.evaluation,
        granularity="channel",
        component="neurons",
        ablation="zero",
        sizes=(),
        targets=(CircuitTarget(task_loss=1e-9),),
        measures=(*MEASURES, "interchange_share"),
    )
    trained = replace(task.model, training=replace(task.model.training, steps=60))  # type: ignore
    sparse = replace(trained, sparsity=Sparsity(nonzero_fraction=0.25))
    task = replace(task, evaluation=evaluation, model=sparse)
    plan = planned(task, a_method("eap"))
    models = ModelStore(tmp_path / "models")
    results = {cell.method.name: computed(cell, models, tmp_path / "run") for cell in plan.cells}
    host, swapped = results["eap"], results["eap, swapped"]
    for result in results.values():
        for name in MEASURES[1:]:
            assert np.isfinite(result["whole"][name]["value"])
    assert host["whole"]["interchange_share"]["value"] == pytest.approx(1, abs=1e-4)
    assert host["empty"]["interchange_share"]["value"] == pytest.approx(0, abs=1e-4)
    assert host["empty"]["necessity"]["value"] == pytest.approx(host["whole"]["task_loss"]["value"])
    assert host["whole"]["necessity"]["value"] == pytest.approx(host["empty"]["task_loss"]["value"])
    for name in ("necessity", "calibrated_necessity", "interchange_share"):
        assert swapped["whole"][name]["value"] == pytest.approx(host["whole"][name]["value"])
    assert swapped["whole"]["task_loss"] != host["whole"]["task_loss"]
    # The untrained model has its initial weights, where they are not zero, as many as in the end.
    cell = plan.cells[-1]
    weights = dict(load_model(models.path(cell.model_id)).named_parameters())
    ended = dict(load_model(models.path(plan.cells[0].model_id)).named_parameters())
    config = load_model(models.path(cell.model_id)).config
    assert isinstance(config, TransformerConfig)
    start = dict(random_model(config, sparse.training.seed).named_parameters())
    for name, weight in weights.items():
        kept = weight != 0
        assert torch.allclose(weight[kept], start[name][kept], rtol=0, atol=1e-11), name
        assert weight.ndim == 1 or kept.sum() == (ended[name] != 0).sum()
