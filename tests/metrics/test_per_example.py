"""Measures over ordered answers, from logits: what a loop over prompts gives; refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.slow_reference import small_model
from support.toy_task import CHOICES

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.patchable import plain_logits
from harness.datasets.batch import Batches
from harness.datasets.open import open_data
from harness.errors import HarnessError
from harness.evaluation.curve import evaluate_circuits
from harness.evaluation.setup import Setup
from harness.evaluation.summary import Summary
from harness.metrics import RECORDED
from harness.metrics.ordered_answers import kendall_tau, prob_diff_10
from harness.metrics.per_example import OrderedAnswers
from harness.spec.load import Library

ANSWERS = [7, 2, 9, 4, 1, 10]  # token ids, in the order of the list
NAMES = ("prob_diff_10", "kendall_tau")


def ordered(batch, places):
    """The batch with the answers up to a place as bad ones, those after it as good ones."""
    n = len(places)
    bad, good = torch.full((n, 1, 6), -1), torch.full((n, 1, 6), -1)
    for row, place in enumerate(places):
        bad[row, 0, : place + 1] = torch.tensor(ANSWERS[: place + 1])
        good[row, 0, : 5 - place] = torch.tensor(ANSWERS[place + 1 :])
    return replace(batch, good=good, bad=bad)


@pytest.fixture
def batch(random_batch):
    return ordered(random_batch(n=5), [0, 1, 4, 2, 2])


def test_the_list_is_that_of_all_prompts(batch):
    found = OrderedAnswers.of([batch, batch.take(torch.tensor([1, 2]))], (*NAMES, "agreement"))
    assert found is not None
    assert found.tokens.tolist() == ANSWERS
    assert found.names == NAMES
    assert OrderedAnswers.of([batch], ("agreement", "good_mass")) is None


def test_logits_in_half_precision_are_read(batch):
    logits = torch.randn(1, 5, 1, 11, generator=torch.Generator().manual_seed(1)).bfloat16()
    found = OrderedAnswers.of([batch], NAMES)
    assert found is not None
    half, full = (found.read(x, x[0], batch) for x in (logits, logits.double()))
    assert all(torch.equal(half[name].double(), full[name].double()) for name in NAMES)


def test_what_is_read_is_the_measure_of_each_prompt(batch):
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 5, 1, 11, generator=draw).double() * 3
    whole = torch.randn(5, 1, 11, generator=draw).double() * 3
    found = OrderedAnswers.of([batch], NAMES)
    assert found is not None
    values = found.read(logits, whole, batch)
    for circuit in range(3):
        for row, place in enumerate([0, 1, 4, 2, 2]):
            p, q = (np.exp(x[row, 0, ANSWERS].numpy()) for x in (logits[circuit], whole))
            wanted = prob_diff_10(p / p.sum(), np.array(place))
            assert values["prob_diff_10"][circuit, row] == pytest.approx(float(wanted))
            wanted = kendall_tau(p, q)
            assert values["kendall_tau"][circuit, row] == pytest.approx(float(wanted))


def test_a_mean_over_the_positions_in_use(batch):
    """Two read positions, the second unused in some prompts."""
    twice = replace(
        batch,
        positions=torch.cat([batch.positions, torch.tensor([[1], [-1], [2], [-1], [0]])], 1),
        good=batch.good.expand(-1, 2, -1).clone(),
        bad=batch.bad.expand(-1, 2, -1).clone(),
    )
    twice.bad[[1, 3], 1] = -1
    twice.good[[1, 3], 1] = -1
    draw = torch.Generator().manual_seed(1)
    logits, whole = (torch.randn(*shape, generator=draw) for shape in ((2, 5, 2, 11), (5, 2, 11)))
    found = OrderedAnswers.of([twice], NAMES)
    assert found is not None
    both = found.read(logits, whole, twice)
    first, second = (
        found.read(logits[..., i : i + 1, :], whole[:, i : i + 1], batch) for i in (0, 1)
    )
    for name in NAMES:
        for row in range(5):
            one, other = first[name][:, row], second[name][:, row]
            wanted = one if row in (1, 3) else (one + other) / 2
            torch.testing.assert_close(both[name][:, row], wanted)


def test_a_curve_carries_them_beside_the_usual_ones(batch):
    model = small_model("gpt2-like")
    graph = Graph.of(model.config)
    nothing = torch.zeros(graph.n_edges, dtype=torch.bool)
    counterfactuals = EdgeCounterfactuals(model, graph, "interchange")
    setup = Setup(EdgeModel(model, graph), [batch], counterfactuals, CHOICES)
    found, usual = (
        evaluate_circuits(
            replace(setup, choices=replace(CHOICES, measures=measures)), [nothing, ~nothing]
        )
        for measures in ((*NAMES, "agreement"), ())
    )
    assert set(found.values) == {*RECORDED, *NAMES}
    assert set(usual.values) == set(RECORDED)
    for name in RECORDED:
        np.testing.assert_array_equal(found.values[name], usual.values[name])
    np.testing.assert_allclose(found.values["kendall_tau"][1], 1)
    plain = plain_logits(model, batch)[None]
    corrupted = plain_logits(model, batch, corrupted=True)[None]
    reader = OrderedAnswers.of([batch], NAMES)
    assert reader is not None
    for row, logits in enumerate((corrupted, plain)):
        values = reader.read(logits, plain[0], batch)["prob_diff_10"][0]
        np.testing.assert_allclose(found.values["prob_diff_10"][row], values, atol=1e-10)
    summary = Summary(found, ())
    wanted = found.values["prob_diff_10"][1].mean()
    assert summary.point(-1)["prob_diff_10"]["value"] == pytest.approx(wanted)
    np.testing.assert_allclose(found.plain["prob_diff_10"], values, atol=1e-12)
    np.testing.assert_allclose(found.plain["kendall_tau"], 1, rtol=1e-12)
    assert summary.plain()["prob_diff_10"]["value"] == pytest.approx(wanted)


def test_prompts_without_one_ordered_list_are_refused(batch, random_batch):
    with pytest.raises(
        HarnessError, match=r"measures: kendall_tau need one ordered .*: .* 3 lists"
    ):
        OrderedAnswers.of([random_batch(n=3)], ("kendall_tau",))
    other = batch.take(torch.tensor([1]))
    other = replace(other, bad=other.bad.flip(-1).roll(2, -1))
    with pytest.raises(HarnessError, match="2 lists"):
        OrderedAnswers.of([batch, other], NAMES)
    none = replace(batch, bad=torch.full_like(batch.bad, -1))
    with pytest.raises(HarnessError, match="a prompt without bad answers"):
        OrderedAnswers.of([none], NAMES)


def test_the_years_of_the_shipped_task_are_in_order():
    task = Library().task("greater_than")
    assert set(NAMES) <= set(task.spec.evaluation.measures)
    data = open_data(task)
    batches = list(Batches(data.pairs("test", 64, 0), 64))
    found = OrderedAnswers.of(batches, task.spec.evaluation.measures)
    assert found is not None
    assert data.tokenizer.decode(found.tokens.tolist()).split() == [f"{y:02}" for y in range(2, 99)]
    for batch in batches:
        for row in range(len(batch)):
            prompt = data.tokenizer.decode(batch.clean[row].tolist()).split()
            place = int((batch.bad[row, 0] >= 0).sum()) - 1
            assert f"{place + 2:02}" in prompt
