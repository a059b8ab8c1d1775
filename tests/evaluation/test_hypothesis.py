"""The three tests on data whose answer is known, and against slow definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evaluation.hypothesis import (
    equivalence,
    gaussian_kernel,
    holm,
    independence,
    minimality,
)

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def chance(n, j, q):
    return math.comb(n, j) * q**j * (1 - q) ** (n - j)


# ---------------------------------------------------------------- equivalence
@pytest.mark.parametrize(
    ("wins", "losses", "ties"), [(60, 40, 0), (13, 2, 5), (2, 13, 4), (9, 9, 0)]
)
def test_p_of_the_sign_statistic(wins, losses, ties):
    n = wins + losses + ties
    difference = np.r_[np.full(wins, 0.1), np.full(losses, -7.0), np.zeros(ties)]
    found = equivalence(3 + difference, np.full(n, 3.0))
    share = (wins + ties / 2) / n
    far = [j for j in range(n + 1) if abs(j / n - 0.5) >= abs(share - 0.5) - 1e-9]
    assert found.statistic == share
    assert found.p == pytest.approx(sum(chance(n, j, 0.6) for j in far), rel=1e-12)


def test_only_signs_count():
    rng = np.random.default_rng(0)
    model = rng.normal(size=100)
    difference = rng.normal(size=100)
    found = [equivalence(model + scale * difference, model) for scale in (1e-3, 1, 1e3)]
    assert found[0] == found[1] == found[2]


def test_equal_scores_are_equivalent_and_one_sided_ones_are_not():
    scores = np.arange(100.0)
    assert equivalence(scores, scores).p == pytest.approx(1)
    assert equivalence(scores, scores).statistic == 0.5
    assert equivalence(scores + 1e-9, scores, tie=1e-6).p == pytest.approx(1)
    assert equivalence(scores + 1, scores).p < 1e-20
    assert equivalence(scores - 1, scores).rejected()


def test_at_the_edge_of_the_null_few_are_rejected():
    # P(s(C) > s(N)) = 0.55 lies inside the null, 0.9 far outside.
    rng = np.random.default_rng(1)
    for share, low, high in ((0.55, 0, 0.05), (0.9, 1, 1)):
        signs = rng.random((200, 100)) < share
        rejected = np.mean([equivalence(row * 2.0 - 1, np.zeros(100)).rejected() for row in signs])
        assert low <= rejected <= high


# ---------------------------------------------------------------- independence
def slow_hsic(x, y):
    """The definition as expectations over pairs, triples and quadruples (Gretton et al. 2005)."""
    n, (k, h) = len(x), (gaussian_kernel(x), gaussian_kernel(y))
    pairs = sum(k[i, j] * h[i, j] for i in range(n) for j in range(n)) / n**2
    apart = sum(k[i, j] for i in range(n) for j in range(n)) / n**2
    apart *= sum(h[i, j] for i in range(n) for j in range(n)) / n**2
    cross = sum(k[i].sum() * h[i].sum() for i in range(n)) / n**3
    return pairs + apart - 2 * cross


def test_hsic_against_its_definition():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 9))
    found = independence(x, y, np.random.default_rng(0), 1)
    assert found.statistic == pytest.approx(slow_hsic(x, y), abs=1e-14)


def test_kernel_width_is_the_median_distance():
    found = gaussian_kernel([0.0, 1.0, 3.0])  # distances 1, 2, 3
    assert found[0, 2] == pytest.approx(math.exp(-((3 / 2) ** 2) / 2))
    assert (np.diag(found) == 1).all()


def test_dependent_scores_are_found_and_shuffled_ones_not():
    rng = np.random.default_rng(0)
    x = rng.normal(size=100)
    smallest = 1 / 501
    for y in (x, -5 * x, x**2):  # the last is uncorrelated
        assert independence(y, x, np.random.default_rng(1), 500).p == smallest
    assert independence(rng.permutation(x), x, np.random.default_rng(1), 500).p > 0.05
    assert independence(np.ones(100), x, np.random.default_rng(1), 500).p == 1


def test_under_independence_p_is_uniform():
    rng = np.random.default_rng(2)
    found = [independence(*rng.normal(size=(2, 15)), rng, 39).p for _ in range(400)]
    for level in (0.05, 0.25, 0.5):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=0.06)


def test_same_generator_same_p():
    x, y = np.random.default_rng(3).normal(size=(2, 30))
    a, b = (independence(x, y, np.random.default_rng(7), 50) for _ in range(2))
    assert a == b


# ---------------------------------------------------------------- minimality
def test_p_of_an_edge_counts_the_random_edges_it_beats():
    reference = np.arange(20.0)
    found = minimality([-1, 100, 12.5], reference)
    wanted = [sum(chance(20, j, 0.9) for j in range(beaten + 1)) for beaten in (0, 20, 13)]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert found[1] == pytest.approx(1)


@pytest.mark.parametrize("n", [1, 7, 300])
@pytest.mark.parametrize("q", [0.1, 0.6, 0.9])
def test_p_of_every_number_of_beaten_edges_against_whole_numbers(n, q):
    chances = [chance(n, j, q) for j in range(n + 1)]
    wanted = [math.fsum(chances[: beaten + 1]) for beaten in range(n + 1)]
    found = minimality(np.arange(n + 1) - 0.5, np.arange(n), q)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-300)


def test_ties_count_one_half():
    zeros = np.zeros(20)
    assert minimality([0.0], zeros)[0] == pytest.approx(sum(chance(20, j, 0.9) for j in range(11)))
    assert minimality([1e-9], zeros, tie=1e-6) == minimality([0.0], zeros)


# ---------------------------------------------------------------- Holm
def slow_holm(p):
    """Step down: the smallest level at which Holm's procedure rejects each hypothesis."""
    adjusted = []
    for mine in p:
        smaller = sorted(p)
        steps = [(len(p) - i) * q for i, q in enumerate(smaller) if q <= mine]
        adjusted.append(min(1.0, max(steps)))
    return adjusted


@given(P_VALUES)
def test_holm_laws(p):
    found = holm(p)
    np.testing.assert_allclose(found, slow_holm(p))
    assert (found >= p).all()
    assert (found <= np.minimum(1, len(p) * np.array(p)) + 1e-15).all()  # never worse: Bonferroni
    assert (np.diff(found[np.argsort(p, kind="stable")]) >= 0).all()
    np.testing.assert_array_equal(holm(p[::-1]), found[::-1])


def test_holm_known_answers():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([0.03]) == [0.03]
    assert len(holm([])) == 0
