"""Agreement with true edges: equal to counting pairs and thresholds one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.ground_truth import (
    MEASURES,
    agreement,
    auroc,
    average_precision,
    ranking,
    ranks_exactly,
)

# Few different scores, so that ties are common.
EDGES = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40)


def slow_auroc(edges):
    pairs = [
        1.0 if true > other else 0.5 if true == other else 0.0
        for true, is_true in edges
        for other, other_is_true in edges
        if is_true and not other_is_true
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


def slow_average_precision(edges):
    total = sum(is_true for _, is_true in edges)
    area, recall = 0.0, 0.0
    for threshold in sorted({score for score, _ in edges}, reverse=True):
        kept = [is_true for score, is_true in edges if score >= threshold]
        if not total:
            return math.nan
        area += (sum(kept) / total - recall) * sum(kept) / len(kept)
        recall = sum(kept) / total
    return area


@given(EDGES)
def test_areas_are_those_counted_by_hand(edges):
    scores, truth = zip(*edges, strict=True)
    assert auroc(scores, truth) == pytest.approx(slow_auroc(edges), nan_ok=True)
    assert average_precision(scores, truth) == pytest.approx(
        slow_average_precision(edges), nan_ok=True
    )


@given(EDGES)
def test_an_exact_ranking_is_one_with_both_areas_full(edges):
    scores, truth = zip(*edges, strict=True)
    if 0 < sum(truth) < len(truth):
        exact = ranks_exactly(scores, truth)
        assert exact == (auroc(scores, truth) == 1)
        assert exact == (average_precision(scores, truth) == pytest.approx(1, abs=1e-12))
        assert exact == any(
            agreement(np.array(scores) >= threshold, truth).exact for threshold in set(scores)
        )


def test_known_values():
    truth = [True, False, True, False]
    assert auroc([4, 3, 2, 1], truth) == 0.75
    assert average_precision([4, 3, 2, 1], truth) == pytest.approx((1 + 2 / 3) / 2)
    assert auroc([1, 1, 1, 1], truth) == 0.5
    assert average_precision([1, 1, 1, 1], truth) == 0.5
    assert auroc([-4, -3, -2, -1], truth) == 0.25


def test_a_circuit_beside_the_true_one():
    truth = np.array([[1, 1, 0], [0, 1, 0]], dtype=bool)
    found = agreement([[1, 0, 1], [0, 1, 0]], truth)
    assert (found.precision, found.recall, found.exact) == (2 / 3, 2 / 3, False)
    assert found.f1 == pytest.approx(2 / 3)
    assert agreement(truth, truth).exact
    assert not agreement(truth | True, truth).exact
    nothing = agreement(np.zeros_like(truth), truth)
    assert math.isnan(nothing.precision)
    assert (nothing.recall, nothing.f1, nothing.exact) == (0, 0, False)


def test_what_has_no_value_is_null_and_scores_must_be_numbers():
    assert ranking([1, 2], [False, False]) == {
        "auroc": None,
        "average_precision": None,
        "exact": True,
    }
    assert ranking([1, 2], [True, True])["auroc"] is None
    assert ranking([1, 2], [False, True]) == {"auroc": 1, "average_precision": 1, "exact": True}
    with pytest.raises(ValueError, match="not a number"):
        auroc([1, math.nan], [True, False])
    assert auroc([1, math.inf], [False, True]) == 1


def test_every_measure_has_a_formula():
    names = [measure.name for measure in MEASURES]
    assert len(set(names)) == len(names)
    assert set(ranking([1, 2], [True, False])) < set(names)
    assert all(measure.formula and measure.source for measure in MEASURES)
