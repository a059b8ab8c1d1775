"""Uncertainty of results: a bootstrap over examples, and over seeds where there are several.

All cells are resampled with the draws of examples that `result.json` was computed with. So with one
seed a table shows the stored interval, a method's seeds share the draws (the test set does not
change with the seed), and differences between methods are paired by example.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.curve import AREAS, faithfulness
from harness.metrics.per_example import with_classes
from harness.metrics.statistics import (
    BOOTSTRAP_SEED,
    DRAWS,
    bootstrap_counts,
    interval,
    shared_resamples,
)
from harness.runs.store.record import StoredCell

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its bootstrap interval (None where it is not defined)."""

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval: what tables show after ±."""
        if self.low is None or self.high is None:
            return None
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class StoredExamples:
    """Per-example measurements of one cell: K circuit sizes, n test examples."""

    sizes: Array  # [K] requested share of all edges
    curve: Array  # [K, n] the task's metric under each circuit
    whole: Array  # [n]
    empty: Array  # [n]
    kl: Array  # [K, n]
    accuracy: Array  # [K, n]
    chosen: Mapping[str, Array]  # [K, n] by name: what the task's `measures` say

    @cached_property
    def faithfulness_draws(self) -> Array:
        """[draws, K] faithfulness of each circuit when the examples are resampled."""
        weights = _weights(self.curve.shape[1])
        whole, empty = weights @ self.whole, weights @ self.empty
        draws: Array = faithfulness(weights @ self.curve.T, empty[:, None], whole[:, None])
        return draws


def chosen_measures(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Measures that the task's `evaluation.measures` and its `answers` add to rows and tables.

    Results that were stored before tasks could choose have none.
    """
    task = result["identity"]["task"]
    return with_classes(task["evaluation"].get("measures", ()), task.get("answers"))


def examples(cell: StoredCell) -> StoredExamples:
    """Read a finished cell's per-example measurements (`StoreCorrupt` if damaged)."""
    assert cell.result is not None
    tensors = cell.store.tensors(cell.entry.id, "examples.safetensors")
    curve = cell.result.get("arrays", "curve")  # as `by_score` says
    return StoredExamples(
        sizes=np.array([point["size_requested"] for point in cell.result["curve"]], np.float64),
        curve=tensors[f"{curve}/metric"],
        whole=tensors["whole/metric"],
        empty=tensors["empty/metric"],
        kl=tensors[f"{curve}/kl"],
        accuracy=tensors[f"{curve}/accuracy"],
        chosen={name: tensors[f"{curve}/{name}"] for name in chosen_measures(cell.result)},
    )


@lru_cache(maxsize=4)
def _weights(n: int) -> Array:
    """[draws, n] weights that resample n examples; the same for every cell with n examples."""
    return shared_resamples(n)


def mean_draws(values: Array) -> Array:
    """[draws, …] mean over resampled examples of per-example `values` [n, …]."""
    mean: Array = _weights(len(values)) @ values
    return mean


def drawable(cell: StoredCell) -> set[str]:
    """Measures of circuits whose values of every example a finished cell has kept.

    The task's metric also goes by its own name.
    """
    assert cell.result is not None
    own = {"faithfulness", "metric", "kl", "accuracy", cell.result["metric"]}
    return own | set(chosen_measures(cell.result))


def curve_draws(cell: StoredCell, measure: str) -> Array:
    """[draws, K] a measure (`drawable`) of every circuit when the examples are resampled.

    Raises `StoreCorrupt` if damaged.
    """
    assert cell.result is not None
    if measure == "faithfulness":
        return examples(cell).faithfulness_draws
    tensors = cell.store.tensors(cell.entry.id, "examples.safetensors")
    kept = "metric" if measure == cell.result["metric"] else measure
    return mean_draws(tensors[f"curve/{kept}"].T)


def area_draws(cell: StoredExamples) -> dict[str, Array]:
    """[draws] of each area under the faithfulness curve, by its name."""
    curve = cell.faithfulness_draws
    steps = np.diff(cell.sizes)
    if not len(steps) or not (steps > 0).all():  # one circuit, or those of targets: no grid
        return {name: np.full(len(curve), np.nan) for name in AREAS}
    return {name: area(cell.sizes, curve) for name, area in AREAS.items()}


def over_seeds(values: Sequence[float | None], draws: Sequence[Array]) -> Estimate:
    """Mean over seeds, with an interval over seeds and examples (hierarchical bootstrap).

    Each draw resamples the seeds and, within all of them alike, the examples. With one seed this
    is the bootstrap over examples. With two or three the share of the seeds is a lower bound:
    so few cannot show how far seeds differ.
    """
    defined = [value for value in values if value is not None]
    if len(defined) < len(values) or not defined:
        return Estimate(None)
    return Estimate(float(np.mean(defined)), *bounds(resample_seeds(draws)))


def resample_seeds(draws: Sequence[Array]) -> Array:
    """[draws, …] mean over resampled seeds of the seeds' own draws [draws, …]."""
    mean: Array = np.einsum("ds,sd...->d...", _seed_weights(len(draws)), np.stack(draws))
    return mean


@lru_cache(maxsize=4)
def _seed_weights(n: int) -> Array:
    """[draws, n] weights that resample n seeds; the same for every number that is averaged."""
    return bootstrap_counts(n, DRAWS, np.random.default_rng([BOOTSTRAP_SEED, 1, n]))


def bounds(draws: Array) -> tuple[float | None, float | None]:
    """Ends of the 95 % interval of resampled values [draws]; None if some are not defined."""
    low, high = interval(draws)
    return (low, high) if np.isfinite([low, high]).all() else (None, None)
