"""Many circuits at once give what each gives alone; whole and empty circuits are the anchors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from slow_reference import small_model
from toy_task import CHOICES

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.forward import PatchedModel, plain_logits
from harness.errors import HarnessError
from harness.evaluation import curve
from harness.evaluation.curve import PER_EXAMPLE, Examples, evaluate_circuits
from harness.evaluation.summary import Summary
from harness.models.behaviour import logit_diff


@pytest.fixture
def setting(random_batch):
    model, batch = small_model("gpt2-like"), random_batch(n=6)
    graph = Graph.of(model.config)
    draw = torch.Generator().manual_seed(0)
    circuits = [
        (torch.rand(graph.allowed.shape, generator=draw) < share) & graph.allowed
        for share in (0.2, 0.5, 0.8)
    ]
    return model, graph, batch, circuits


def run(setting, circuits, choices=CHOICES):
    model, graph, batch, _ = setting
    references = EdgeCounterfactuals(model, graph, choices.ablation)
    return evaluate_circuits(PatchedModel(model, graph), [batch], references, circuits, choices)


def test_together_is_the_same_as_alone(setting, monkeypatch):
    circuits = setting[3]
    together = run(setting, circuits)
    monkeypatch.setattr(curve, "BUFFER", 1)  # one circuit a chunk
    for name in PER_EXAMPLE:
        alone = np.concatenate([run(setting, [kept]).values[name] for kept in circuits])
        np.testing.assert_allclose(together.values[name], alone, atol=1e-12)


def test_equal_circuits_are_run_once_and_reported_each(setting, monkeypatch):
    a, b, _ = setting[3]
    seen = []
    real = PatchedModel.logits
    monkeypatch.setattr(
        PatchedModel, "logits", lambda *args: seen.append(len(args[2])) or real(*args)
    )
    found = run(setting, [a, b, a, a])
    assert seen == [2]
    for values in found.values.values():
        assert np.array_equal(values[0], values[2])
        assert np.array_equal(values[0], values[3])


def test_whole_and_empty_circuits(setting):
    model, graph, batch, _ = setting
    found = run(setting, [torch.zeros_like(graph.allowed), graph.allowed])
    clean = logit_diff(plain_logits(model, batch), batch).numpy()
    corrupted = logit_diff(plain_logits(model, batch, corrupted=True), batch).numpy()
    np.testing.assert_allclose(found.values["metric"], [corrupted, clean], atol=1e-10)
    np.testing.assert_allclose(found.values["kl"][1], 0, atol=1e-12)
    np.testing.assert_array_equal(found.values["agreement"][1], 1)


def test_what_is_not_finite_is_refused_by_pair(setting):
    model, graph, batch, circuits = setting
    same = dataclasses.replace(batch, bad=batch.good)
    with pytest.raises(HarnessError, match="metric of test pair 0 is not a finite number"):
        run((model, graph, same, circuits), circuits[:1])


def test_summary_anchors_and_areas():
    rng = np.random.default_rng(0)
    metric = np.stack([rng.normal(m, 0.1, 50) for m in (0.0, 1.5, 2.1, 0.0, 2.0)])
    values = dict.fromkeys(PER_EXAMPLE, metric)
    summary = Summary(Examples(values), (0.1, 0.5, 1.0), [2, 9, 20])
    assert summary.point(-1)["faithfulness"]["value"] == 1
    assert summary.point(-2)["faithfulness"]["value"] == 0
    assert summary.point(-1)["faithfulness"]["se"] == 0
    areas = summary.areas()
    assert areas["size_at_0.85"] == 20
    assert areas["cmd"]["low"] < areas["cmd"]["value"] < areas["cmd"]["high"]
    means = metric.mean(1)
    wanted = (means[1] - means[3]) / (means[4] - means[3])
    assert summary.point(1)["faithfulness"]["value"] == pytest.approx(wanted)
