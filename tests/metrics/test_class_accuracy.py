"""Accuracy by class: against loops over prompts, with intervals of the ratios that they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.slow_reference import small_model
from support.toy_task import CHOICES

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.errors import HarnessError
from harness.evaluation.curve import evaluate_circuits
from harness.evaluation.setup import Setup
from harness.evaluation.summary import Summary
from harness.metrics.class_accuracy import accuracies, class_accuracy
from harness.metrics.per_example import PerExample
from harness.metrics.statistics import estimate, shared_resamples


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 3), st.integers(1, 4))
def test_means_are_shares_of_right_answers_by_class(seed, n, places, classes):
    rng = np.random.default_rng(seed)
    ids = rng.integers(-1, classes, size=(n, places))
    ids[0, 0] = 0  # something is read
    correct = rng.integers(2, size=(2, n, places)) * (ids >= 0)
    by_class = accuracies(correct, ids)
    for circuit in range(2):
        shares = []
        for one in sorted({*ids.flatten().tolist()} - {-1}):
            right = [
                correct[circuit, i, p] for i in range(n) for p in range(places) if ids[i, p] == one
            ]
            shares.append(sum(right) / len(right))
            assert by_class[one][circuit].mean() == pytest.approx(shares[-1], abs=1e-12)
        assert class_accuracy(correct, ids)[circuit].mean() == pytest.approx(np.mean(shares))
    assert len(by_class) == len(shares)


def test_a_circuit_that_never_says_balanced():
    """Seven of eight are unbalanced: accuracy .875, and half of the classes without a bound."""
    ids = np.array([[0]] * 7 + [[1]])
    correct = (ids == 0).astype(float)[None]
    assert correct.mean() == 0.875
    weights = shared_resamples(8)
    for values, wanted in (
        (accuracies(correct, ids)[0], 1.0),
        (accuracies(correct, ids)[1], 0.0),
        (class_accuracy(correct, ids), 0.5),
    ):
        one = estimate(values[0].mean(), weights @ values[0], 8, "mean")
        assert (one["value"], one["low"], one["high"]) == pytest.approx((wanted,) * 3, abs=1e-12)


def test_intervals_are_those_of_the_ratio():
    rng = np.random.default_rng(0)
    ids = (rng.random((256, 1)) < 0.2).astype(int)
    correct = (rng.random((256, 1)) < np.where(ids, 0.4, 0.9)).astype(float)
    weights = shared_resamples(256)
    inside = (ids[:, 0] == 1).astype(float)
    ratios = (weights @ (inside * correct[:, 0])) / (weights @ inside)
    linear = weights @ accuracies(correct[None], ids)[1][0]
    assert np.std(linear) == pytest.approx(np.std(ratios), rel=0.05)
    assert np.mean(linear) == pytest.approx(np.mean(ratios), abs=0.005)


def setup_of(batch, classes=(), measures=()):
    model = small_model("attention-alone", d_vocab_out=3)
    graph = Graph.of(model.config)
    counterfactuals = EdgeCounterfactuals(model, graph, "interchange")
    choices = replace(CHOICES, measures=measures)
    return Setup(EdgeModel(model, graph), [batch], counterfactuals, choices, classes)


def test_circuits_are_measured_by_class(random_batch):
    """Read at two places of some prompts; a class that no prompt has is left out."""
    batch = random_batch(n=12, vocabulary=11)
    positions = torch.stack([torch.full((12,), 5), torch.arange(12) % 6 - 1], 1)
    good = torch.tensor([[0, 1], [0, 0], [0, 2]]).repeat(4, 1)[..., None]
    good[9] = 1
    batch = replace(batch, positions=positions, good=good, bad=(good + 1) % 3)
    setup = setup_of(batch, ("none", "some", "all", "never"))
    everything = torch.ones(len(setup.space), dtype=torch.bool)
    examples = evaluate_circuits(setup, [~everything, everything])
    assert not [name for name in examples.values if name.startswith("correct at")]
    summary = Summary(examples, ())
    for row, tokens in ((0, batch.corrupted), (1, batch.clean)):
        top = setup.model(tokens).argmax(-1)
        right: dict[str, list[bool]] = {"none": [], "some": [], "all": []}
        for i in range(12):
            for place in range(2):
                if (at := int(positions[i, place])) >= 0:
                    wanted = int(good[i, place, 0])
                    right[list(right)[wanted]].append(bool(top[i, at] == wanted))
        point = summary.point(row)
        for name, answers in right.items():
            assert point[f"accuracy[{name}]"]["value"] == pytest.approx(np.mean(answers))
        macro = np.mean([np.mean(answers) for answers in right.values()])
        assert point["class_accuracy"]["value"] == pytest.approx(macro)
    assert "accuracy[never]" not in examples.values
    assert set(examples.plain) == set(examples.values)


def test_tasks_in_tokens_may_ask_for_it(random_batch):
    """Then classes have no names, and only their mean is given."""
    examples = evaluate_circuits(
        setup_of(replace(random_batch(vocabulary=3)), measures=("class_accuracy",)),
        [torch.ones(setup_of(random_batch()).space.graph.n_edges, dtype=torch.bool)],
    )
    assert "class_accuracy" in examples.values
    assert not [name for name in examples.values if name.startswith("accuracy[")]


def test_several_good_answers_are_no_classes(random_batch):
    batch = random_batch()
    twice = replace(batch, good=torch.cat([batch.good, batch.good + 1], -1))
    with pytest.raises(HarnessError, match="class_accuracy needs one good answer"):
        PerExample.of([twice], "logit_diff", ("class_accuracy",))
