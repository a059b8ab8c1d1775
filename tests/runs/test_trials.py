"""A method at other params, trial by trial: what is drawn, what it costs, what is kept of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.fake_cells import a_method, a_model, a_task, loaded

from harness.discovery.problem import ActiveSet, Discovery
from harness.discovery.registry import make_method
from harness.errors import HarnessError
from harness.evaluation.targets import stricter
from harness.runs.compute.cell import compute_cell
from harness.runs.plan import Cell, ModelSource, make_cell
from harness.runs.plan.unable import refuse_unable
from harness.runs.store import CellStore
from harness.runs.store.models import ModelStore
from harness.spec.types import CircuitTarget, ParamSearch, Runtime, Selection

SEARCH = ParamSearch(trials=3, ranges={"prices": (0.1, 3.0), "start_noise": (0.0, 0.1)})


def a_cell(search: ParamSearch | None = SEARCH, **changes: Any) -> Cell:
    """Masks of the toy task, searched for on its discovery pairs."""
    task = a_task()
    choices = {"targets": (CircuitTarget(task_loss=0.75),), "searched_on": "discovery", **changes}
    evaluation = replace(task.evaluation, sizes=(), discovery_pairs=16, test_pairs=16, **choices)
    model = replace(a_model(), training=replace(a_model().training, steps=20))
    method = replace(
        a_method("heaviside_masks"), params={"steps": 6}, selection=Selection(search=search)
    )
    source = ModelSource(model, "toy-model", Path())
    task = replace(task, evaluation=evaluation)
    return make_cell(loaded(task), source, method, "method", 3, Runtime(threads=1), None)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return ModelStore(tmp_path_factory.mktemp("models"))


def result_of(cell: Cell, models: ModelStore, folder: Path) -> dict[str, Any]:
    store = CellStore(folder)
    store.publish(cell.id, compute_cell(cell, models, lambda text: None), {})
    result = json.loads((folder / "cells" / cell.id / "result.json").read_bytes())
    assert isinstance(result, dict)
    return result


def test_all_trials_are_searched_and_the_smallest_circuit_is_kept(
    models: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[dict[str, Any], Discovery]] = []

    class Watched:
        def __init__(self, params: dict[str, Any]) -> None:
            self.params = params

        def discover(self, problem: Any) -> Discovery:
            found = make_method("heaviside_masks", self.params).discover(problem)
            made.append((self.params, found))
            return found

    where = "harness.runs.compute.searches.trials.make_method"
    monkeypatch.setattr(where, lambda kind, params: Watched(dict(params)))
    result = result_of(a_cell(), models, tmp_path / "one")
    assert len(made) == SEARCH.trials
    for number, (params, _) in enumerate(made):
        (price,) = params["prices"]
        assert params["steps"] == 6
        assert 0.1 <= price <= 3.0
        assert 0.0 <= params["start_noise"] <= 0.1
        assert result["notes"][f"trial {number}/prices"] == price
    assert len({params["prices"][0] for params, _ in made}) == SEARCH.trials
    (point,) = result["curve"]
    assert point["target"]["reached"]
    values = [result["notes"][f"trial {number}/log size"] for number in range(SEARCH.trials)]
    assert torch.tensor(min(values)).expm1().round() == point["size"]
    # The same cell draws the same trials, to the byte.
    again = result_of(a_cell(), models, tmp_path / "two")
    assert again == result
    paths = [
        tmp_path / one / "cells" / a_cell().id / "circuit.safetensors" for one in ("one", "two")
    ]
    assert len({path.read_bytes() for path in paths}) == 1


def test_trials_without_active_sets_cannot_be_put_together(
    models: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ranking:
        def discover(self, problem: Any) -> Discovery:
            return Discovery(torch.ones(len(problem.space)))

    where = "harness.runs.compute.searches.trials.make_method"
    monkeypatch.setattr(where, lambda kind, params: Ranking())
    with pytest.raises(HarnessError, match="has no active sets"):
        compute_cell(a_cell(), models, lambda text: None)
    assert ActiveSet(torch.ones(1), 1).size == 1


def test_ids_do_not_know_of_searches_and_margins_where_there_are_none() -> None:
    cell = a_cell(None)
    assert "search" not in cell.identity["method"]["selection"]
    assert "margin" not in cell.identity["task"]["evaluation"]
    assert len({one.id for one in (cell, a_cell(), a_cell(None, margin=0.02))}) == 3


def test_searches_that_cannot_be_made_are_refused_by_the_plan() -> None:
    refuse_unable([a_cell()])
    with pytest.raises(HarnessError, match="is for circuits of `targets`"):
        refuse_unable([a_cell(targets=None, counts=(3,))])
    for ranges, words in (
        ({"price": (1.0, 2.0)}, "no number 'price' to search; it has prices, repeats"),
        ({"objective": (1.0, 2.0)}, "no number 'objective' to search"),
        ({"prices": (2.0, 1.0)}, r"no range of prices: 2\.0, 1\.0"),
    ):
        with pytest.raises(HarnessError, match=words):
            refuse_unable([a_cell(ParamSearch(trials=2, ranges=ranges))])


def test_a_margin_makes_targets_stricter() -> None:
    assert stricter(CircuitTarget(task_loss=0.15), 0.02).value == pytest.approx(0.13)
    assert stricter(CircuitTarget(task_loss=0.01), 0.02).value == 0
    assert stricter(CircuitTarget(faithfulness=0.9), 0.05).value == pytest.approx(0.95)
    assert stricter(CircuitTarget(faithfulness=0.99), 0.05).value == 1
    assert stricter(CircuitTarget(kl=0.1), 0.0) == CircuitTarget(kl=0.1)


def test_a_margin_is_kept_on_the_pairs_that_are_searched(
    models: ModelStore, tmp_path: Path
) -> None:
    cell = a_cell(None, targets=(CircuitTarget(task_loss=0.8),), margin=0.1, searched_on="test")
    (point,) = result_of(cell, models, tmp_path)["curve"]
    assert point["target"]["value"] == 0.8
    assert point["target"]["reached"]
    assert point["task_loss"]["value"] <= 0.7 + 1e-6
