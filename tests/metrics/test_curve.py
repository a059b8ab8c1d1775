"""Measures from their definitions, on curves whose values are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics import curve as measures
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
