"""Measures of sequences against loops that follow the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.metrics import sequences
from harness.metrics.sequences import allowed_kl, allowed_mass, allowed_top1, excess_loss


def slow(logits: list[float], allowed: list[bool], following: int) -> dict[str, float]:
    weights = [math.exp(x) for x in logits]
    p = [w / sum(weights) for w in weights]
    right = [token for token, can in enumerate(allowed) if can]
    best = max(range(len(p)), key=lambda token: logits[token])
    return {
        "allowed_top1": float(best in right),
        "allowed_mass": sum(p[token] for token in right),
        "allowed_kl": sum(1 / len(right) * math.log(1 / len(right) / p[token]) for token in right),
        "excess_loss": -math.log(p[following]) - math.log(len(right)),
    }


@st.composite
def positions(draw: st.DrawFn) -> tuple[list[float], list[bool], int]:
    width, extra = draw(st.integers(2, 6)), draw(st.integers(0, 2))
    size = width + extra
    logits = draw(st.lists(st.floats(-5, 5), min_size=size, max_size=size, unique=True))
    allowed = draw(st.lists(st.booleans(), min_size=width, max_size=width).filter(any))
    return logits, allowed, allowed.index(True)


@given(positions())
def test_against_the_definitions(one: tuple[list[float], list[bool], int]) -> None:
    logits, allowed, following = one
    expected = slow(logits, [*allowed, *[False] * (len(logits) - len(allowed))], following)
    tensors = (
        torch.tensor([logits], dtype=torch.float64),
        torch.tensor([allowed]),
        torch.tensor([following]),
    )
    for measure in sequences.MEASURES:
        value = measure.compute(*tensors)
        assert float(value) == pytest.approx(expected[measure.name], abs=1e-9), measure.name


def uniform(allowed: Tensor) -> Tensor:
    return torch.where(allowed, 0.0, -torch.inf)


def test_the_best_possible_model() -> None:
    allowed = torch.rand(4, 5, 7) > 0.4
    allowed[..., 0] = True
    logits, first = uniform(allowed), torch.zeros(4, 5, dtype=torch.long)
    assert (allowed_top1(logits, allowed, first) == 1).all()
    for measure, best in ((allowed_mass, 1.0), (allowed_kl, 0.0), (excess_loss, 0.0)):
        torch.testing.assert_close(
            measure(logits, allowed, first), torch.full((4, 5), best, dtype=torch.float64)
        )


def test_the_mean_excess_is_the_divergence() -> None:
    """Over all allowed next tokens, which is what sampling one of them approaches."""
    generator = torch.Generator().manual_seed(0)
    logits, allowed = torch.randn(6, generator=generator), torch.arange(6) % 2 == 0
    excess = [excess_loss(logits, allowed, torch.tensor(token)) for token in (0, 2, 4)]
    expected = allowed_kl(logits, allowed, torch.tensor(0))
    assert float(sum(excess)) / 3 == pytest.approx(float(expected))


def test_nothing_is_allowed_after_the_end() -> None:
    logits, allowed = torch.randn(2, 4), torch.tensor([[True, False], [False, False]])
    for measure in sequences.MEASURES:
        value = measure.compute(logits, allowed, torch.tensor([0, -100])).numpy()
        assert np.isnan(value).tolist() == [False, True]
