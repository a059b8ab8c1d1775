"""Faithfulness, and measures of a curve: the faithfulness of one method's circuits by size.

Functions of a curve act on the last axis, so that bootstrap samples pass through in one call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.measure import Measure

Floats = NDArray[np.float64]

SIZE_THRESHOLDS = (0.85, 0.95, 0.99)


def faithfulness(circuit: ArrayLike, empty: ArrayLike, whole: ArrayLike) -> Floats:
    """(m(C) - m(∅)) / (m(M) - m(∅)) of mean metrics; NaN where model and empty circuit agree.

    A ratio of means, not a mean of ratios (Wang et al. 2023 and MIB). They agree when the ablation
    moves the metric by less than 1e-4 of its size: a ratio to rounding noise is no measure.
    Broadcasts.
    """
    c, e, w = (np.asarray(x, dtype=np.float64) for x in (circuit, empty, whole))
    span = w - e
    scale = np.maximum(np.abs(w), np.abs(e))
    meaningful = np.abs(span) > 1e-4 * np.maximum(scale, 1e-300)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(meaningful, (c - e) / span, np.nan))


def cpr(sizes: ArrayLike, curve: ArrayLike) -> Floats:
    """Σ (k_{i+1} - k_i)·(f_i + f_{i+1})/2 over the requested shares k of edges (MIB).

    On MIB's grid from 0.001 to 1 a perfect curve gives 0.999.
    """
    area: Floats = np.trapezoid(np.asarray(curve, np.float64), np.asarray(sizes, np.float64))
    return area


def cmd(sizes: ArrayLike, curve: ArrayLike) -> Floats:
    """Σ (k_{i+1} - k_i)·(|1 - f_i| + |1 - f_{i+1}|)/2 (MIB); 0 is best."""
    return cpr(sizes, np.abs(1 - np.asarray(curve, np.float64)))


def _log_share(sizes: ArrayLike) -> Floats:
    axis: Floats = np.log10(np.asarray(sizes, np.float64))
    share: Floats = (axis - axis[0]) / (axis[-1] - axis[0])
    return share


def cpr_log(sizes: ArrayLike, curve: ArrayLike) -> Floats:
    """Mean faithfulness over log size: trapezoids over log10 k, divided by its range."""
    area: Floats = np.trapezoid(np.asarray(curve, np.float64), _log_share(sizes))
    return area


def cmd_log(sizes: ArrayLike, curve: ArrayLike) -> Floats:
    """Mean |1 - faithfulness| over log size; 0 is best."""
    return cpr_log(sizes, np.abs(1 - np.asarray(curve, np.float64)))


ROUNDING = 1e-6
"""By so much a circuit may fall short of what it has to reach: rounding must not hide the model."""


def size_reaching(threshold: float, realised: list[int], curve: ArrayLike) -> int | None:
    """Elements of the smallest measured circuit with faithfulness ≥ threshold, or None."""
    values = np.asarray(curve, np.float64)
    reaching = [n for n, f in zip(realised, values, strict=True) if f >= threshold - ROUNDING]
    return min(reaching, default=None)


MEASURES = (
    Measure(
        "faithfulness",
        "faithfulness",
        "up",
        "(m(C) - m(∅)) / (m(M) - m(∅)), each m a mean over prompt pairs; 1 = whole model, "
        "0 = empty circuit, not clipped",
        "MIB (Mueller et al. 2025)",
        "mean metric",
        faithfulness,
    ),
    Measure(
        "cmd",
        "CMD",
        "down",
        "trapezoid area of |1 - faithfulness| over the share of elements, 0.001 to 1; 0 is best",
        "MIB (Mueller et al. 2025)",
        "faithfulness by size",
        cmd,
    ),
    Measure(
        "cpr",
        "CPR",
        "up",
        "trapezoid area of faithfulness over the share of elements, 0.001 to 1; 0.999 for a "
        "perfect curve, more if circuits overshoot",
        "MIB (Mueller et al. 2025)",
        "faithfulness by size",
        cpr,
    ),
    Measure(
        "cmd_log",
        "CMD log",
        "down",
        "as CMD over log10 of the share of elements, divided by its range: small circuits count "
        "as much as large ones",
        "this harness",
        "faithfulness by size",
        cmd_log,
    ),
    Measure(
        "cpr_log",
        "CPR log",
        "up",
        "as CPR over log10 of the share of elements, divided by its range",
        "this harness",
        "faithfulness by size",
        cpr_log,
    ),
    Measure(
        "size_at",
        "elements at 0.85 / 0.95 / 0.99",
        "down",
        "elements of the smallest circuit whose faithfulness reaches the threshold, by bisection "
        "along the method's ranking; of the smallest measured one (≤) where it has several; none "
        "if no circuit does",
        "this harness",
        "faithfulness by elements",
        size_reaching,
        unit="elements",
    ),
)

AREAS = {one.name: one.compute for one in MEASURES if one.computed_from == "faithfulness by size"}
