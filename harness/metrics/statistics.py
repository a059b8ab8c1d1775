"""Uncertainty: one bootstrap over examples, and a jackknife over the few circuits of a method.

Prompt pairs are resampled with replacement; a resample is a row of weights that sum to one, so
that the resampled mean of anything is one matrix product. All estimates of a cell, and all cells
on the same test pairs, use the same resamples: differences between them are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS = 1000
LEVEL = 0.95
BOOTSTRAP_SEED = 20240626


def bootstrap_counts(n: int, draws: int, rng: np.random.Generator) -> Floats:
    """Weights [draws, n] of `draws` resamples of n examples; each row sums to 1."""
    return rng.multinomial(n, np.full(n, 1 / n), size=draws) / n


def shared_resamples(n: int, draws: int = DRAWS) -> Floats:
    """The resamples [draws, n] that every cell with n test pairs uses."""
    return bootstrap_counts(n, draws, np.random.default_rng([BOOTSTRAP_SEED, n]))


def interval(samples: Floats, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval of bootstrap samples [draws]; NaN if any sample is not finite."""
    if not np.isfinite(samples).all():
        return (float("nan"), float("nan"))
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def student_t(freedom: int, level: float = LEVEL) -> float:
    """The t with P(|T| < t) = level of Student's distribution with `freedom` degrees."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))


def jackknife_interval(value: float, without_each: Floats) -> tuple[float, float]:
    """value ± t·√((n-1)/n · Σ_i (v_i - v̄)²), v_i the estimate without the i-th of n things.

    Student's t with n - 1 degrees of freedom (Tukey 1958). For estimates over all pairs of a few
    things it is near its level, where resampling, which draws the same thing twice, is too narrow.
    NaN if an estimate is not finite.
    """
    n = len(without_each)
    if not np.isfinite([value, *without_each]).all():
        return (float("nan"), float("nan"))
    spread = np.square(without_each - without_each.mean()).sum() * (n - 1) / n
    half = student_t(n - 1) * float(np.sqrt(spread))
    return value - half, value + half


@dataclass(frozen=True)
class Ratio:
    """A geometric mean of n positive numbers, with its 95 % interval (None for n = 1)."""

    value: float
    low: float | None
    high: float | None
    n: int


def geometric_mean(values: Sequence[float]) -> Ratio:
    """exp(mean of logarithms), with Student's t on them (n - 1 degrees of freedom).

    The values are taken as independent. `values` are positive, and there is one at least.
    """
    logs = np.log(np.asarray(values, dtype=np.float64))
    n, mean = len(logs), float(logs.mean())
    if n == 1:
        return Ratio(float(np.exp(mean)), None, None, 1)
    half = student_t(n - 1) * float(logs.std(ddof=1)) / float(np.sqrt(n))
    low, middle, high = (float(np.exp(one)) for one in (mean - half, mean, mean + half))
    return Ratio(middle, low, high, n)


def estimate(value: float, samples: Floats, n: int, estimator: str) -> dict[str, Any]:
    """An estimate as it stands in `result.json`.

    `se`: standard deviation of the bootstrap samples; `low`, `high`: their 95 % percentile
    interval; `n`: prompt pairs. What is not finite is null.
    """
    low, high = interval(samples)
    spread = float(np.std(samples, ddof=1)) if np.isfinite(samples).all() else float("nan")
    numbers = {"value": float(value), "se": spread, "low": low, "high": high}
    finite = {k: (x if np.isfinite(x) else None) for k, x in numbers.items()}
    return {**finite, "n": n, "estimator": estimator}
