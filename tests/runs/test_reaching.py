"""The smallest circuits for targets: inside active sets, cleaned up, and on which pairs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from support.fake_cells import a_method, a_model, a_task, loaded
from support.slow_reference import small_model
from support.toy_task import CHOICES

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.select import top_n
from harness.discovery.problem import ActiveSet, Discovery
from harness.evaluation.references import References
from harness.evaluation.setup import Setup
from harness.evaluation.targets import TargetSearch, cleaned, with_losses
from harness.runs.compute.cell import compute_cell
from harness.runs.compute.circuits import Ladder, verified
from harness.runs.plan import ModelSource, make_cell
from harness.runs.store import CellStore
from harness.runs.store.circuits import stored_circuit
from harness.runs.store.models import ModelStore
from harness.spec.types import CircuitTarget, Runtime, Selection

KL = CircuitTarget(kl=0.05)


@pytest.fixture
def setup(random_batch) -> Setup:
    model = small_model("gpt2-like")
    graph = Graph.of(model.config)
    counterfactuals = EdgeCounterfactuals(model, graph, "interchange")
    choices = replace(CHOICES, targets=(KL,))
    return Setup(EdgeModel(model, graph), [random_batch()], counterfactuals, choices)


def scores_of(setup: Setup, seed: int) -> torch.Tensor:
    return torch.rand(len(setup.space), generator=torch.Generator().manual_seed(seed)).double()


def kl_of(setup: Setup, kept: torch.Tensor) -> float:
    search = TargetSearch.start(with_losses(setup, [KL]), References(setup), lambda n: kept)
    search._measure([5])
    return search.means[5]["kl"]


def found(setup: Setup, discovery: Discovery, **selection):
    (one,) = Ladder(discovery, setup, Selection(**selection)).requested()
    return one


def test_the_smallest_of_all_active_sets_that_reach_the_target(setup):
    sets = tuple(ActiveSet(scores_of(setup, s), len(setup.space) - 2 - s) for s in range(4))
    alone = [found(setup, Discovery(one.scores, active=(one,))) for one in sets]
    together = found(setup, Discovery(sets[0].scores, active=sets))
    reaching = [one for one in alone if one.target["reached"]]
    assert reaching
    assert together.size == min(one.size for one in reaching)
    assert kl_of(setup, together.kept) <= 0.05 + 1e-6
    # One element less along the ranking that it was cut from does not.
    scores = together.cut.scores
    fewer = setup.space.prune(top_n(scores, together.n - 1), "interchange")
    assert kl_of(setup, fewer) > 0.05


def test_an_active_set_that_misses_is_no_success(setup, caplog):
    """Circuits beyond it would reach the target, but the training says nothing of them."""
    scores = scores_of(setup, 0)
    small, smaller = ActiveSet(scores, 12), ActiveSet(scores, 6)
    one = found(setup, Discovery(scores, active=(smaller, small)))
    assert one.target == {"measure": "kl", "value": 0.05, "reached": False}
    nearness = {
        n: kl_of(setup, setup.space.prune(top_n(scores, n), "interchange")) for n in (12, 6)
    }
    assert one.n == min(nearness, key=nearness.__getitem__)
    assert one.size <= 12
    assert "no active set reaches kl 0.05, the nearest is at" in caplog.text
    everything = found(setup, Discovery(scores))
    assert everything.target["reached"]


def test_clean_up_keeps_the_target_and_only_what_it_needs(setup):
    scores = scores_of(setup, 1)
    whole = found(setup, Discovery(scores))
    one = found(setup, Discovery(scores), clean_up=True)
    assert one.size < whole.size
    assert not (one.kept & ~whole.kept).any()
    assert kl_of(setup, one.kept) <= 0.05 + 1e-6
    for element in one.kept.nonzero().flatten().tolist():  # two passes are enough here
        without = one.kept.clone()
        without[element] = False
        assert kl_of(setup, without) > 0.05


def test_clean_up_tries_the_weakest_first_and_comes_back_to_what_was_needed():
    """a may go once b has; b is tried after it."""
    kept = torch.ones(3, dtype=torch.bool)
    tried = []

    def holds(circuit: torch.Tensor) -> bool:
        tried.append(circuit.tolist())
        a, b, c = circuit.tolist()
        return c and (a or not b)

    result = cleaned(kept, torch.tensor([0.1, 0.2, 0.3]), holds)
    assert result.tolist() == [False, False, True]
    assert tried[0] == [False, True, True]
    assert tried[1] == [True, False, True]


# ---------------------------------------------------------------- whole cells
def a_cell(method="heaviside_masks", params=None, **choices):
    task = a_task()
    evaluation = replace(
        task.evaluation, **{"sizes": (), "discovery_pairs": 24, "test_pairs": 32, **choices}
    )
    task = replace(task, evaluation=evaluation)
    model = replace(a_model(), training=replace(a_model().training, steps=40, learning_rate=0.01))
    source = ModelSource(model, "toy-model", loaded(task).folder)
    named = replace(a_method(method), params=params or {})
    return make_cell(loaded(task), source, named, "method", 0, Runtime(threads=1), None)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return ModelStore(tmp_path_factory.mktemp("models"))


def test_circuits_are_searched_on_discovery_pairs_and_measured_on_fresh_ones(models, tmp_path):
    targets = (CircuitTarget(task_loss=0.8), CircuitTarget(task_loss=1e-6))
    choices = {"targets": targets, "measures": ("task_loss", "calibrated_task_loss")}
    params = {"steps": 20, "prices": [0.3, 1.0]}
    fresh = a_cell(params=params, searched_on="discovery", **choices)
    same = a_cell(params=params, **choices)
    assert fresh.id != same.id
    assert "searched_on" not in same.identity["task"]["evaluation"]
    store = CellStore(tmp_path)
    store.publish(fresh.id, compute_cell(fresh, models, lambda text: None), {})
    result = json.loads((tmp_path / "cells" / fresh.id / "result.json").read_bytes())
    first, last = result["curve"]
    assert first["target"]["searched_on"] == "discovery"
    assert first["target"]["reached"]
    assert first["target"]["held"] == (first["task_loss"]["value"] <= 0.8 + 1e-6)
    assert not last["target"]["reached"]
    assert not last["target"]["held"]
    assert last["size"] < result["total"]  # the nearest active set, not the whole model
    circuit = stored_circuit(store, fresh.id)
    assert circuit.size == first["size"]
    assert circuit.source["cut_from"].startswith("an active set of ")
    # What prefers one answer throughout is mended, so that the loss is about chance at most.
    assert result["empty"]["calibrated_task_loss"]["value"] < 0.75
    assert "log_odds" not in first
    again = compute_cell(same, models, lambda text: None).result["curve"][0]
    assert "held" not in again["target"]


@pytest.mark.parametrize("which", ["swapped", "nonsense"])
def test_a_control_is_measured_on_other_answers(which, models, tmp_path):
    choices = {"counts": (3,), "ablation": "zero", "measures": ("task_loss",)}
    control, usual = a_cell("eap", answers=which, **choices), a_cell("eap", **choices)
    assert control.id != usual.id
    assert "answers" not in usual.identity["task"]["evaluation"]
    store = CellStore(tmp_path)
    store.publish(control.id, compute_cell(control, models, lambda text: None), {})
    result = json.loads((tmp_path / "cells" / control.id / "result.json").read_bytes())
    assert result["choices"]["answers"] == which
    right = compute_cell(usual, models, lambda text: None).result
    assert "answers" not in right["choices"]
    if which == "swapped":
        there, here = (x["plain"]["metric"]["value"] for x in (result, right))
        assert there == pytest.approx(-here)


def test_held_is_what_the_estimate_on_the_test_pairs_says():
    target = {"measure": "task_loss", "value": 0.15, "reached": True, "searched_on": "discovery"}
    assert verified(target, {"task_loss": {"value": 0.14}})["held"] is True
    assert verified(target, {"task_loss": {"value": 0.16}})["held"] is False
    assert verified(target, {"task_loss": {"value": None}})["held"] is False
    faithful = {**target, "measure": "faithfulness", "value": 0.9}
    assert verified(faithful, {"faithfulness": {"value": 0.91}})["held"] is True
    tested = {"measure": "kl", "value": 0.1, "reached": True}
    assert verified(tested, {}) is tested
    assert verified(None, {}) is None
