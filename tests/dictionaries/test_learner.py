"""Gradients written by hand are those of autograd; directions are learned and dead ones revived."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.dictionaries.dictionary import Activation, random_dictionary
from harness.dictionaries.training.learner import (
    BANDWIDTH,
    FIRST_THRESHOLD,
    SAMPLE,
    DictionaryLearner,
)
from harness.spec.types import DictionaryForm

WIDTH, FEATURES, K, ROWS = 7, 13, 3, 40
ACTIVATIONS: list[Activation] = ["relu_l1", "topk", "batchtopk", "jumprelu"]


def learner(
    activation: Activation, *, pre_bias: bool = True, features: int = FEATURES, width: int = WIDTH
) -> DictionaryLearner:
    has_k = activation in ("topk", "batchtopk")
    form = DictionaryForm(
        activation=activation, features=features, k=K if has_k else None, price=0.05,
        pre_bias=pre_bias,
    )  # fmt: skip
    first = random_dictionary(
        width, features, activation, seed=1, k=K if activation == "topk" else None,
        pre_bias=pre_bias,
    )  # fmt: skip
    one = DictionaryLearner(first.double(), form, K, torch.float64)
    one.scale = one.scale.double()
    one.renormalise()  # rows were drawn in single precision
    if one.log_threshold is not None:
        one.log_threshold = torch.nn.Parameter(one.log_threshold.detach().double())
    return one


def by_autograd(one: DictionaryLearner, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of the formula in the docstring; thresholds stay as they are."""
    ours, form = one.dictionary, one.form
    weights = {name: w.detach().clone().requires_grad_() for name, w in one.parameters().items()}
    x = x * one.scale
    before = (x - weights["decoder_bias"] if form.pre_bias else x) @ weights["encoder"].T
    before = before + weights["encoder_bias"]
    if form.activation == "topk":
        keep = torch.zeros_like(before, dtype=torch.bool)
        keep.scatter_(1, before.topk(K, 1).indices, True)
        code = torch.where(keep, before.relu(), 0)
    elif form.activation == "batchtopk":
        rows = before[:SAMPLE].detach().flatten()
        rank = rows.numel() - min(len(x), SAMPLE) * K
        code = torch.where(before > rows.sort().values[rank - 1], before, 0)
    elif form.activation == "jumprelu":
        code = torch.where(before > weights["log_threshold"].exp(), before, 0)
    else:
        code = before.relu()
    decoded = code @ weights["decoder"] + weights["decoder_bias"]
    loss = (decoded - x).square().sum() / x.numel()
    if form.activation == "relu_l1":
        loss = loss + form.price * code.sum() / (len(x) * math.sqrt(ours.width))
    if form.activation == "jumprelu":
        loss = loss + form.price * (code > 0).sum() / x.numel()
    names = [name for name in weights if name != "log_threshold"]
    gradients = dict(
        zip(names, torch.autograd.grad(loss, [weights[n] for n in names]), strict=True)
    )
    along = (gradients["decoder"] * weights["decoder"]).sum(1, keepdim=True)
    gradients["decoder"] = gradients["decoder"] - along * weights["decoder"]
    return loss, gradients


@pytest.mark.parametrize("pre_bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_those_of_autograd(activation: Activation, pre_bias: bool) -> None:
    one = learner(activation, pre_bias=pre_bias)
    x = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(2)).double() * 3 + 0.5
    one.start(x)
    loss, expected = by_autograd(one, x)
    assert torch.allclose(one.backward(x), loss.detach())
    for name, gradient in expected.items():
        torch.testing.assert_close(one.parameters()[name].grad, gradient, atol=1e-12, rtol=1e-9)
    radial = (one.dictionary.decoder.grad * one.dictionary.decoder).sum(1)
    assert radial.abs().max() < 1e-12


def test_the_gradient_of_a_threshold_is_that_of_the_rectangle() -> None:
    """The formula, one feature and one activation at a time."""
    one = learner("jumprelu")
    assert one.log_threshold is not None
    x = torch.randn(400, WIDTH, generator=torch.Generator().manual_seed(3)).double()
    one.start(x)
    one.backward(x)
    ours, x = one.dictionary, x * one.scale
    before = ours.before_activation(x)
    code = torch.where(before > FIRST_THRESHOLD, before, 0)
    error = (ours.decode(code) - x) * 2 / x.numel()
    expected = torch.zeros(FEATURES, dtype=torch.float64)
    near = 0
    for row, feature in ((row, feature) for row in range(len(x)) for feature in range(FEATURES)):
        if abs(before[row, feature] - FIRST_THRESHOLD) < BANDWIDTH / 2:
            near += 1
            by_code = error[row] @ ours.decoder[feature]
            per_unit = -(FIRST_THRESHOLD * by_code + one.form.price / x.numel()) / BANDWIDTH
            expected[feature] += per_unit * FIRST_THRESHOLD
    assert near > 20
    torch.testing.assert_close(one.log_threshold.grad, expected.detach(), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_scale_is_taken_out_of_the_weights(activation: Activation) -> None:
    one = learner(activation)
    x = torch.randn(ROWS, WIDTH).double() * 20 + 5
    one.start(x)
    one.backward(x)
    last = one.finished()
    code = last.encode(x)
    inside = one._resting(x * one.scale)
    torch.testing.assert_close(code * one.scale, inside.clamp(min=0), atol=1e-9, rtol=1e-7)
    decoded = one.dictionary.decode(inside) / one.scale
    torch.testing.assert_close(last.decode(code), decoded.detach(), atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("activation", ["batchtopk", "topk", "relu_l1"])
def test_planted_directions_are_learned(activation: Activation) -> None:
    """Data that is a sparse sum of known directions gives these directions back."""
    draw = torch.Generator().manual_seed(4)
    truth = torch.randn(20, 16, generator=draw)
    truth = truth / truth.norm(dim=1, keepdim=True)
    one = learner(activation, features=32, width=16)
    optimiser = torch.optim.Adam(list(one.parameters().values()), lr=0.02)
    for step in range(300):
        active = torch.rand(256, 20, generator=draw) < 0.1
        x = ((torch.rand(256, 20, generator=draw) + 0.5) * active @ truth).double()
        if step == 0:
            one.start(x)
        one.backward(x)
        optimiser.step()
        one.renormalise()
    norms = one.dictionary.decoder.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))
    closest = (truth.double() @ one.dictionary.decoder.T).max(1).values
    assert closest.mean() > 0.85
    start = random_dictionary(16, 32, seed=1)
    assert (truth @ start.decoder.T).max(1).values.mean() < 0.65


def test_dead_features_are_moved_to_what_is_badly_decoded() -> None:
    one = learner("relu_l1", features=4)
    with torch.no_grad():
        one.dictionary.encoder_bias[2] = -1e3
    x = torch.randn(ROWS, WIDTH).double()
    one.backward(x)
    assert one.fired.tolist() == [True, True, False, True]
    error = x - one.dictionary(x)
    before = one.dictionary.decoder.clone()
    assert one.resample(x, torch.Generator().manual_seed(0)).tolist() == [2]
    row = one.dictionary.decoder[2]
    alike = torch.cosine_similarity(error, row[None], dim=1)
    assert alike.max() > 1 - 1e-9
    assert torch.equal(one.dictionary.decoder[[0, 1, 3]], before[[0, 1, 3]])
    assert one.dictionary.encoder_bias[2].item() == 0
    assert not one.fired.any()


def test_the_first_threshold_is_that_of_the_first_batch() -> None:
    """A running mean that starts at 0 would leave most features active."""
    one = learner("batchtopk")
    x = torch.randn(ROWS, WIDTH).double()
    one.start(x)
    one.backward(x)
    active = (one._resting(x * one.scale) > 0).sum() / len(x)
    assert abs(float(active) - K) < 0.5
