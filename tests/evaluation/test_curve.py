"""Many circuits at once give what each gives alone; whole and empty circuits are the anchors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.slow_reference import small_model
from support.toy_task import CHOICES

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.patchable import plain_logits
from harness.errors import HarnessError
from harness.evaluation import curve
from harness.evaluation.curve import Examples, evaluate_circuits
from harness.evaluation.setup import Setup
from harness.evaluation.summary import Summary
from harness.metrics import RECORDED
from harness.metrics.logits import logit_diff
from harness.metrics.registry import from_logits


@pytest.fixture
def setup(random_batch):
    model = small_model("gpt2-like")
    graph = Graph.of(model.config)
    counterfactuals = EdgeCounterfactuals(model, graph, CHOICES.ablation)
    return Setup(EdgeModel(model, graph), [random_batch(n=6)], counterfactuals, CHOICES)


@pytest.fixture
def circuits(setup):
    draw = torch.Generator().manual_seed(0)
    return [torch.rand(len(setup.space), generator=draw) < share for share in (0.2, 0.5, 0.8)]


def test_together_is_the_same_as_alone(setup, circuits, monkeypatch):
    together = evaluate_circuits(setup, circuits)
    monkeypatch.setattr(curve, "BUFFER", 1)  # one circuit a chunk
    for name in RECORDED:
        alone = [evaluate_circuits(setup, [kept]).values[name] for kept in circuits]
        np.testing.assert_allclose(together.values[name], np.concatenate(alone), atol=1e-12)


def test_equal_circuits_are_run_once_and_reported_each(setup, circuits, monkeypatch):
    a, b, _ = circuits
    seen = []
    real = EdgeModel.logits
    monkeypatch.setattr(EdgeModel, "logits", lambda *args: seen.append(len(args[2])) or real(*args))
    examples = evaluate_circuits(setup, [a, b, a, a])
    assert seen == [2]
    for values in examples.values.values():
        assert np.array_equal(values[0], values[2])
        assert np.array_equal(values[0], values[3])


def test_whole_and_empty_circuits(setup, circuits):
    model, (batch,) = setup.model, setup.batches
    nothing = torch.zeros_like(circuits[0])
    examples = evaluate_circuits(setup, [nothing, ~nothing])
    clean = logit_diff(plain_logits(model, batch), batch).numpy()
    corrupted = logit_diff(plain_logits(model, batch, corrupted=True), batch).numpy()
    np.testing.assert_allclose(examples.values["metric"], [corrupted, clean], atol=1e-10)
    np.testing.assert_allclose(examples.values["kl"][1], 0, atol=1e-12)
    np.testing.assert_array_equal(examples.values["agreement"][1], 1)


@pytest.mark.parametrize("metric", ["logit_diff", "prob_diff"])
def test_the_plain_model_is_the_whole_circuit_but_for_rounding(setup, circuits, metric):
    """Measured on its own pass, on every batch, whichever circuits are run."""
    (batch,) = setup.batches
    halves = [batch.take(rows) for rows in (torch.arange(2), torch.arange(2, 6))]
    choices = dataclasses.replace(CHOICES, metric=metric)
    setup = dataclasses.replace(setup, batches=halves, choices=choices)
    examples = evaluate_circuits(setup, [circuits[0], torch.ones_like(circuits[0])])
    assert set(examples.plain) == set(examples.values) == set(RECORDED)
    for name, plain in examples.plain.items():
        assert plain.shape == (6,)
        np.testing.assert_allclose(examples.values[name][1], plain, rtol=1e-11, atol=1e-12)
    assert (examples.plain["kl"] == 0).all()
    wanted = from_logits(metric)(plain_logits(setup.model, batch), None, batch).numpy()
    np.testing.assert_allclose(examples.plain["metric"], wanted, rtol=1e-12)
    without = evaluate_circuits(setup, circuits[1:])
    for name, plain in without.plain.items():
        assert np.array_equal(plain, examples.plain[name])


def test_what_is_not_finite_is_refused_by_pair(setup, circuits):
    (batch,) = setup.batches
    same = dataclasses.replace(setup, batches=[dataclasses.replace(batch, bad=batch.good)])
    with pytest.raises(HarnessError, match="metric of test pair 0 is not a finite number"):
        evaluate_circuits(same, circuits[:1])


def test_summary_anchors_and_areas():
    rng = np.random.default_rng(0)
    metric = np.stack([rng.normal(m, 0.1, 50) for m in (0.0, 1.5, 2.1, 0.0, 2.0)])
    values = dict.fromkeys(RECORDED, metric)
    plain = dict.fromkeys(RECORDED, metric[-1] + 1)
    summary = Summary(Examples(values, plain), (0.1, 0.5, 1.0))
    assert summary.point(-1)["faithfulness"]["value"] == 1
    assert summary.point(-2)["faithfulness"]["value"] == 0
    assert summary.point(-1)["faithfulness"]["se"] == 0
    areas = summary.areas()
    assert areas["cmd"]["low"] < areas["cmd"]["value"] < areas["cmd"]["high"]
    means = metric.mean(1)
    wanted = (means[1] - means[3]) / (means[4] - means[3])
    assert summary.point(1)["faithfulness"]["value"] == pytest.approx(wanted)
    assert summary.curve()[1] == summary.point(1)["faithfulness"]["value"]
    assert len(summary.curve()) == 3
    assert summary.plain()["metric"]["value"] == pytest.approx(means[4] + 1)
    wanted = (means[4] + 1 - means[3]) / (means[4] - means[3])
    assert summary.plain()["faithfulness"]["value"] == pytest.approx(wanted)
    assert summary.plain()["faithfulness"]["se"] > 0
