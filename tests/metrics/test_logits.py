"""Measures at the answer positions, on logits whose answers are worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from harness.datasets.batch import Batch
from harness.metrics import LOSSES
from harness.metrics import logits as of_logits


def batch(good, bad, positions=((0,),)) -> Batch:
    n = len(good)
    tokens = torch.zeros(n, 1, dtype=torch.int64)
    places = torch.tensor(positions).expand(n, -1)
    return Batch(tokens, tokens, places, torch.tensor(good), torch.tensor(bad), torch.arange(n))


LOGITS = torch.tensor([[[1.0, 3.0, 0.0, -2.0]]])


def test_one_good_and_one_bad_answer():
    pair = batch([[[1]]], [[[3]]])
    assert of_logits.logit_diff(LOGITS, pair).item() == 5
    p = LOGITS.softmax(-1)[0, 0]
    assert of_logits.prob_diff(LOGITS, pair).item() == pytest.approx(float(p[1] - p[3]))
    assert of_logits.accuracy(LOGITS, pair).item() == 1
    assert of_logits.good_mass(LOGITS, pair).item() == pytest.approx(float(p[1]))
    assert of_logits.cross_entropy(LOGITS, pair).item() == pytest.approx(-math.log(float(p[1])))


def test_sets_contrast_what_is_not_shared():
    """Good {0, 1}, bad {1, 2, 3}: 0 against the mean of 2 and 3; 1 is in both."""
    sets = batch([[[0, 1, -1]]], [[[1, 2, 3]]])
    assert of_logits.logit_diff(LOGITS, sets).item() == 1 - (0 - 2) / 2
    p = LOGITS.softmax(-1)[0, 0]
    assert of_logits.prob_diff(LOGITS, sets).item() == pytest.approx(float(p[0] - p[2] - p[3]))
    assert of_logits.good_mass(LOGITS, sets).item() == pytest.approx(float(p[0] + p[1]))
    assert of_logits.accuracy(LOGITS, sets).item() == 1
    assert of_logits.accuracy(LOGITS, batch([[[0, 2]]], [[[1]]])).item() == 0


def test_several_positions_are_averaged_and_unused_ones_left_out():
    logits = torch.stack([LOGITS[0, 0], -LOGITS[0, 0], 9 * LOGITS[0, 0]])[None]
    answers = torch.tensor([[[1], [1], [1]]]), torch.tensor([[[3], [3], [3]]])
    two = Batch(
        torch.zeros(1, 3, dtype=torch.int64),
        torch.zeros(1, 3, dtype=torch.int64),
        torch.tensor([[0, 1, -1]]),
        *answers,
        torch.arange(1),
    )
    assert of_logits.logit_diff(logits, two).item() == 0
    assert of_logits.accuracy(logits, two).item() == 0.5


def test_kl_and_agreement():
    pair = batch([[[1]]], [[[3]]])
    assert of_logits.kl(LOGITS, LOGITS, pair).item() == 0
    assert of_logits.kl(LOGITS + 5, LOGITS, pair).item() == pytest.approx(0, abs=1e-6)
    other = torch.zeros(1, 1, 4)
    p = LOGITS.softmax(-1)[0, 0]
    wanted = float((p * (p.log() - math.log(0.25))).sum())
    assert of_logits.kl(other, LOGITS, pair).item() == pytest.approx(wanted, rel=1e-5)
    assert of_logits.agreement(2 * LOGITS, LOGITS, pair).item() == 1
    assert of_logits.agreement(-LOGITS, LOGITS, pair).item() == 0


def test_leading_axes_pass_through():
    pair = batch([[[1]]], [[[3]]])
    stacked = torch.stack([LOGITS, -LOGITS])
    assert of_logits.logit_diff(stacked, pair).tolist() == [[5.0], [-5.0]]
    assert of_logits.kl(stacked, LOGITS, pair).shape == (2, 1)


@pytest.mark.parametrize("name", LOSSES)
def test_positions_without_an_answer_have_no_gradient(name):
    """A prompt with fewer answers than another has -1 there: neither its value nor 0/0 counts."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, generator=draw, dtype=torch.float64).requires_grad_()
    whole = torch.randn(2, 3, 5, generator=draw, dtype=torch.float64)
    positions = torch.tensor([[0, 1, -1], [2, -1, -1]])
    good = torch.where(positions >= 0, 1, -1)[..., None]
    bad = torch.where(positions >= 0, 2, -1)[..., None]
    batch = Batch(positions, positions, positions, good, bad, torch.arange(2))
    total = LOSSES[name](logits[None], whole, batch).sum()
    (at,) = torch.autograd.grad(total, logits)
    assert torch.isfinite(at).all()
    assert (at[positions < 0] == 0).all()
    assert at[positions >= 0].abs().sum() > 0


def test_the_task_loss_chooses_between_good_and_bad_answers_alone():
    pair = batch([[[1]], [[3]]], [[[3]], [[1]]])
    logits = LOGITS.expand(2, -1, -1)
    wanted = [math.log1p(math.exp(-5.0)), math.log1p(math.exp(5.0))]
    assert of_logits.task_loss(logits, pair).tolist() == pytest.approx(wanted, rel=1e-6)
    p = [1 / (1 + math.exp(-5.0)), 1 / (1 + math.exp(5.0))]
    assert of_logits.p_correct(logits, pair).tolist() == pytest.approx(p, rel=1e-6)
    assert of_logits.log_odds(logits, pair).tolist() == [5, -5]
    assert of_logits.choice_accuracy(logits, pair).tolist() == [1, 0]
    assert of_logits.choice_accuracy(0 * logits, pair).tolist() == [0.5, 0.5]  # a tie
    # Another token is the likeliest, which is no matter for the choice.
    other = logits.clone()
    other[..., 0] = 99
    assert of_logits.choice_accuracy(other, pair).tolist() == [1, 0]
    assert of_logits.accuracy(other, pair).tolist() == [0, 0]
    assert of_logits.task_loss(0 * logits, pair).tolist() == pytest.approx([math.log(2)] * 2)
    # No other token's logit plays a part, unlike in the cross-entropy.
    others = logits.clone()
    others[..., [0, 2]] += 7
    assert torch.equal(of_logits.task_loss(others, pair), of_logits.task_loss(logits, pair))


def test_the_task_loss_of_sets_adds_up_probabilities_and_leaves_out_what_is_in_both():
    """Good {0, 1}, bad {1, 2, 3}: p(0) against p(2) + p(3)."""
    sets = batch([[[0, 1, -1]]], [[[1, 2, 3]]])
    p = LOGITS.double().softmax(-1)[0, 0]
    good, bad = float(p[0]), float(p[2] + p[3])
    assert of_logits.log_odds(LOGITS, sets).item() == pytest.approx(math.log(good / bad))
    assert of_logits.task_loss(LOGITS, sets).item() == pytest.approx(-math.log(good / (good + bad)))
    nothing_bad = batch([[[0, 1]]], [[[-1, 1]]])
    assert math.isnan(of_logits.task_loss(LOGITS, nothing_bad).item())


def test_the_task_loss_stays_exact_where_the_answer_is_sure():
    sure = torch.tensor([[[0.0, 60.0, 0.0, 0.0]]])
    pair = batch([[[1]]], [[[3]]])
    assert of_logits.task_loss(sure, pair).item() == pytest.approx(math.exp(-60), rel=1e-5)
