"""Measures from their definitions, on curves whose values are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evaluation import measures
from harness.evaluation.statistics import bootstrap_counts, estimate, interval, shared_resamples
from harness.spec.types import MIB_SIZES

curves = st.lists(st.floats(-3, 3), min_size=10, max_size=10)


def test_a_perfect_curve():
    ones = np.ones(10)
    assert measures.cpr(MIB_SIZES, ones) == pytest.approx(0.999)
    assert measures.cmd(MIB_SIZES, ones) == 0
    assert measures.cpr_log(MIB_SIZES, ones) == pytest.approx(1)
    assert measures.cmd_log(MIB_SIZES, ones) == 0


def test_only_the_whole_graph_is_faithful():
    """The published row of random circuits: .25 and .75."""
    curve = np.zeros(10)
    curve[-1] = 1
    assert measures.cpr(MIB_SIZES, curve) == pytest.approx(0.25)
    assert measures.cmd(MIB_SIZES, curve) == pytest.approx(0.749)


def test_trapezoid_weights_of_the_grid():
    weights = [0.0005, 0.002, 0.004, 0.0075, 0.02, 0.04, 0.075, 0.2, 0.4, 0.25]
    for index, weight in enumerate(weights):
        curve = np.zeros(10)
        curve[index] = 1
        assert measures.cpr(MIB_SIZES, curve) == pytest.approx(weight)


@given(curves)
def test_areas_against_a_loop(curve):
    cpr = cmd = 0.0
    for (k, f), (k2, f2) in zip(
        zip(MIB_SIZES, curve, strict=True), zip(MIB_SIZES[1:], curve[1:], strict=True), strict=False
    ):
        cpr += (k2 - k) * (f + f2) / 2
        cmd += (k2 - k) * (abs(1 - f) + abs(1 - f2)) / 2
    assert float(measures.cpr(MIB_SIZES, curve)) == pytest.approx(cpr)
    assert float(measures.cmd(MIB_SIZES, curve)) == pytest.approx(cmd)


@given(curves)
def test_overshooting_helps_cpr_and_never_cmd(curve):
    clipped = np.minimum(curve, 1)
    assert measures.cpr(MIB_SIZES, curve) >= measures.cpr(MIB_SIZES, clipped) - 1e-12
    assert measures.cmd(MIB_SIZES, curve) >= measures.cmd(MIB_SIZES, clipped) - 1e-12


def test_faithfulness_is_a_ratio_of_means_and_has_no_value_without_a_span():
    assert measures.faithfulness(2.0, 1.0, 3.0) == 0.5
    assert measures.faithfulness(5.0, 1.0, 3.0) == 2  # not clipped
    assert np.isnan(measures.faithfulness(1.0, 2.0, 2.0))
    assert np.isnan(measures.faithfulness(0.0, 0.0, 0.0))


def test_smallest_size_reaching():
    sizes, curve = [0, 3, 9, 20], [0.0, 0.9, 0.7, 1.0 - 1e-9]
    assert measures.size_reaching(0.85, sizes, curve) == 3
    assert measures.size_reaching(0.99, sizes, curve) == 20
    assert measures.size_reaching(1.0, sizes, curve) == 20
    assert measures.size_reaching(1.1, sizes, curve) is None
    assert measures.size_reaching(0.5, sizes, [np.nan] * 4) is None


def test_every_measure_says_what_it_is():
    names = [measure.name for measure in measures.MEASURES]
    assert len(names) == len(set(names))
    for measure in measures.MEASURES:
        assert measure.formula
        assert measure.source
        assert measure.arrow in {"↑", "↓", ""}


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
