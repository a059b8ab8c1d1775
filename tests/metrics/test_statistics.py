"""Intervals against published values and slow definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.metrics.statistics import (
    bootstrap_counts,
    estimate,
    interval,
    jackknife_interval,
    shared_resamples,
    student_t,
)


@pytest.mark.parametrize(
    ("freedom", "published"),
    [(1, 12.7062047), (2, 4.30265273), (4, 2.77644511), (11, 2.20098516), (100, 1.98397152)],
)
def test_students_t(freedom: int, published: float) -> None:
    assert student_t(freedom) == pytest.approx(published, rel=1e-8)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_students_t_where_it_has_a_closed_form(level: float) -> None:
    """One degree of freedom is Cauchy's distribution; two have an algebraic quantile."""
    assert student_t(1, level) == pytest.approx(math.tan(math.pi * level / 2), rel=1e-12)
    p = (1 + level) / 2
    two = (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))
    assert student_t(2, level) == pytest.approx(two, rel=1e-12)


def test_the_jackknife_of_a_mean_is_its_usual_interval() -> None:
    x = np.random.default_rng(0).normal(size=9)
    without = np.array([np.delete(x, i).mean() for i in range(9)])
    half = student_t(8) * x.std(ddof=1) / 3
    assert jackknife_interval(x.mean(), without) == pytest.approx(
        (x.mean() - half, x.mean() + half), abs=1e-12
    )
    assert np.isnan(jackknife_interval(np.nan, without)).all()


def test_resamples_are_weights_and_reproducible():
    weights = shared_resamples(40, 100)
    np.testing.assert_allclose(weights.sum(1), 1)
    assert np.array_equal(weights, shared_resamples(40, 100))
    counts = bootstrap_counts(7, 5, np.random.default_rng(0)) * 7
    np.testing.assert_allclose(counts, counts.round())


def test_bootstrap_error_is_the_standard_error_of_a_mean():
    values = np.random.default_rng(0).normal(size=400)
    found = estimate(values.mean(), shared_resamples(400) @ values, 400, "mean")
    assert found["se"] == pytest.approx(values.std() / 20, rel=0.1)
    assert found["low"] < found["value"] < found["high"]
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * found["se"], rel=0.1)


def test_what_is_not_finite_is_null():
    found = estimate(float("nan"), np.array([1.0, np.nan]), 2, "mean")
    assert found == {
        "value": None,
        "se": None,
        "low": None,
        "high": None,
        "n": 2,
        "estimator": "mean",
    }
    assert np.isnan(interval(np.array([np.inf, 1.0]))).all()


@pytest.mark.slow
def test_intervals_cover_the_truth():
    """About 95 of 100 intervals hold the true mean."""
    rng, weights = np.random.default_rng(1), shared_resamples(100)
    held = 0
    for _ in range(400):
        low, high = interval(weights @ rng.exponential(size=100))
        held += low <= 1 <= high
    assert 0.90 <= held / 400 <= 0.97
