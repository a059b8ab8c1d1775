"""From per-example values to estimates: a point per size, and areas over the whole curve."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.evaluation.curve import Examples, Floats
from harness.metrics import curve as measures
from harness.metrics.statistics import estimate, shared_resamples


class Summary:
    """Estimates for K circuits, the empty one and the whole model, on the same n pairs.

    `examples` rows: K circuits, then the empty circuit, then all elements. `sizes`: shares of all
    elements that areas are taken over, ascending; empty where the circuits are no grid.
    """

    def __init__(self, examples: Examples, sizes: tuple[float, ...]) -> None:
        self.examples, self.sizes = examples, sizes
        metric = examples.values["metric"]
        self.n = metric.shape[1]
        self.weights = shared_resamples(self.n)
        self._faithful = _faithfulness(metric.mean(1))
        self._faithful_samples = _faithfulness(self.weights @ metric.T)

    def point(self, index: int) -> dict[str, Any]:
        """Estimates of one circuit; -2 is the empty circuit, -1 the whole model."""
        row = self.examples.row(index)
        estimates = {
            name: estimate(row[name].mean(), self.weights @ row[name], self.n, "mean")
            for name in row
        }
        estimates["faithfulness"] = estimate(
            self._faithful[index], self._faithful_samples[:, index], self.n, "ratio_of_means"
        )
        return estimates

    def plain(self) -> dict[str, Any]:
        """Estimates of the model itself."""
        row, metric = self.examples.plain, self.examples.values["metric"]
        estimates = {
            name: estimate(row[name].mean(), self.weights @ row[name], self.n, "mean")
            for name in row
        }
        rows = np.vstack([row["metric"][None], metric[-2:]])
        value, samples = _faithfulness(rows.mean(1))[0], _faithfulness(self.weights @ rows.T)[:, 0]
        return estimates | {"faithfulness": estimate(value, samples, self.n, "ratio_of_means")}

    def areas(self) -> dict[str, Any]:
        """CPR, CMD, and their forms over log size; null where there is no grid of sizes."""
        if not self.sizes:
            nothing = np.full(len(self.weights), np.nan)
            return {
                name: estimate(float("nan"), nothing, self.n, "area") for name in measures.AREAS
            }
        curve, samples = self._faithful[:-2], self._faithful_samples[:, :-2]
        return {
            name: estimate(
                float(area(self.sizes, curve)), area(self.sizes, samples), self.n, "area"
            )
            for name, area in measures.AREAS.items()
        }

    def curve(self) -> Floats:
        """Faithfulness of each circuit [K]."""
        return self._faithful[:-2]


def _faithfulness(metric: Floats) -> Floats:
    """Faithfulness of all circuits from mean metrics [..., K+2]; last two: empty, whole."""
    return np.asarray(
        measures.faithfulness(metric, metric[..., -2:-1], metric[..., -1:]), dtype=np.float64
    )
