"""How far two sets of elements are the same, from their sizes; 0/0 is NaN."""

from __future__ import annotations

import math

import numpy as np

from harness.metrics.measure import Measure


def iou(shared: int, a: int, b: int) -> float:
    """|A ∩ B| / |A ∪ B|; NaN for two empty sets."""
    return _ratio(shared, a + b - shared)


def of_smaller(shared: int, a: int, b: int) -> float:
    """|A ∩ B| / min(|A|, |B|); NaN if one is empty."""
    return _ratio(shared, min(a, b))


def expected_iou(a: int, b: int, total: int) -> float:
    """E[k / (a + b - k)] with k hypergeometric: IoU of random sets of a and b out of `total`.

    Probabilities are normalised, so that what rounding does to all of them cancels. NaN for two
    empty sets. Raises ValueError for sets larger than `total`.
    """
    if not 0 <= min(a, b) <= max(a, b) <= total:
        raise ValueError(f"sets of {a} and {b} members do not fit into {total}")
    if a + b == 0:
        return math.nan
    from scipy.stats import hypergeom

    k = np.arange(max(0, a + b - total), min(a, b) + 1)
    weights = np.exp(hypergeom.logpmf(k, total, a, b))  # `pmf` takes seconds for large sets
    return float(weights @ (k / (a + b - k)) / weights.sum())


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


MEASURES = (
    Measure(
        "iou",
        "IoU",
        "up",
        "|A ∩ B| / |A ∪ B| of the elements of two circuits",
        "Edge Pruning (Bhaskar et al. 2024), appendix D",
        "sizes of two circuits",
        iou,
    ),
    Measure(
        "of_smaller",
        "share of the smaller",
        "up",
        "|A ∩ B| / min(|A|, |B|) of the elements of two circuits",
        "Edge Pruning (Bhaskar et al. 2024)",
        "sizes of two circuits",
        of_smaller,
    ),
    Measure(
        "expected_iou",
        "expected IoU",
        "none",
        "mean IoU of two random circuits of these sizes: E[k / (a + b - k)], k hypergeometric",
        "this harness",
        "sizes and space",
        expected_iou,
    ),
)
