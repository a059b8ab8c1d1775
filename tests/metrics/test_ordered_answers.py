"""Measures over ordered answers against loops that follow the definitions."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.metrics.ordered_answers import (
    answer_probabilities,
    kendall_tau,
    prob_diff_10,
)

SCORES = st.lists(st.integers(-3, 3), min_size=2, max_size=9)


def slow_prob_diff(p: list[float], place: int) -> float:
    later = sum(p[a] for a in range(len(p)) if place < a <= place + 10)
    earlier = sum(p[a] for a in range(len(p)) if place - 10 <= a < place)
    return later - earlier


def slow_tau(one: list[float], other: list[float]) -> float:
    concordant = discordant = only_one = only_other = 0
    for i, j in combinations(range(len(one)), 2):
        a, b = one[i] - one[j], other[i] - other[j]
        concordant += a * b > 0
        discordant += a * b < 0
        only_one += a == 0 != b
        only_other += b == 0 != a
    both = concordant + discordant
    if both + only_one == 0 or both + only_other == 0:
        return 0.0
    return (concordant - discordant) / math.sqrt((both + only_one) * (both + only_other))


@pytest.fixture
def probabilities() -> np.ndarray:
    return answer_probabilities(np.random.default_rng(0).normal(size=(2, 30, 100)) * 3)


def test_softmax_over_the_answers_alone(probabilities: np.ndarray) -> None:
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-14)
    logits = np.array([[1000.0, 1001.0], [-np.inf, 0.0]])
    expected = [[1 / (1 + math.e), math.e / (1 + math.e)], [0, 1]]
    np.testing.assert_allclose(answer_probabilities(logits), expected, rtol=1e-14)
    np.testing.assert_allclose(
        answer_probabilities(logits[0] + 7), answer_probabilities(logits[0]), rtol=1e-14
    )


def test_prob_diff_10_is_its_definition(probabilities: np.ndarray) -> None:
    places = np.random.default_rng(1).integers(100, size=30)
    places[:3] = [0, 99, 95]
    found = prob_diff_10(probabilities, places)
    assert found.shape == (2, 30)
    for circuit in range(2):
        for row, place in enumerate(places):
            expected = slow_prob_diff(probabilities[circuit, row].tolist(), place)
            assert found[circuit, row] == pytest.approx(expected, abs=1e-14)


def test_the_window_of_ten() -> None:
    """All mass on the year itself or eleven away counts nothing, ten away it counts in full."""
    p = np.eye(100)[[50, 61, 60, 51, 49, 40, 39]]
    np.testing.assert_array_equal(prob_diff_10(p, np.full(7, 50)), [0, 0, 1, 1, -1, -1, 0])


@pytest.mark.parametrize("place", [-1, 100])
def test_a_place_outside_is_refused(probabilities: np.ndarray, place: int) -> None:
    with pytest.raises(ValueError, match="outside of 0 … 99"):
        prob_diff_10(probabilities, np.full(30, place))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_tau_is_its_definition(data: st.DataObject) -> None:
    one = data.draw(SCORES)
    other = data.draw(st.lists(st.integers(-3, 3), min_size=len(one), max_size=len(one)))
    found, expected = float(kendall_tau(one, other)), slow_tau(one, other)
    assert found == pytest.approx(expected, abs=1e-14, nan_ok=True)
    assert float(kendall_tau(other, one)) == pytest.approx(expected, abs=1e-14, nan_ok=True)


def test_tau_of_known_orders() -> None:
    order = np.arange(100.0)
    assert kendall_tau(order, np.exp(order)) == pytest.approx(1, abs=1e-14)
    assert kendall_tau(order, -order) == pytest.approx(-1, abs=1e-14)
    assert kendall_tau([1, 2, 3, 4], [2, 1, 3, 4]) == pytest.approx(2 / 3, abs=1e-14)
    assert kendall_tau(order, np.ones(100)) == 0
    assert np.isnan(kendall_tau([1, np.nan], [1, 2]))


def test_tau_passes_leading_axes_through(probabilities: np.ndarray) -> None:
    whole = kendall_tau(probabilities, probabilities[0])
    assert whole.shape == (2, 30)
    np.testing.assert_allclose(whole[0], 1, atol=1e-14)
    expected = slow_tau(probabilities[1, 4].tolist(), probabilities[0, 4].tolist())
    assert whole[1, 4] == pytest.approx(expected, abs=1e-14)
    assert kendall_tau(probabilities[:, :0], probabilities[0, :0]).shape == (2, 0)
    assert (kendall_tau(probabilities[..., :1], probabilities[0, :, :1]) == 0).all()
