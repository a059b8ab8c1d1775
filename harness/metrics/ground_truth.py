"""How well the edges that a method keeps or ranks agree with the true ones.

Over the E edges that a graph allows. `truth` bool [E] says which edges are true, `kept`
bool [E] which a circuit keeps, `scores` float [E] how a method ranks them (higher is surer). What
has no value (nothing kept, no true edge, all edges true) is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.measure import Measure

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """A circuit beside the true one."""

    precision: float
    recall: float
    f1: float
    exact: bool


def agreement(kept: ArrayLike, truth: ArrayLike) -> Agreement:
    """Compare the edges of a circuit with the true ones."""
    circuit, wanted = _bools(kept), _bools(truth)
    both, n_kept, n_true = int((circuit & wanted).sum()), int(circuit.sum()), int(wanted.sum())
    return Agreement(
        precision=_ratio(both, n_kept),
        recall=_ratio(both, n_true),
        f1=_ratio(2 * both, n_kept + n_true),
        exact=bool((circuit == wanted).all()),
    )


def auroc(scores: ArrayLike, truth: ArrayLike) -> float:
    """Area under the ROC curve, exactly: from ranks, tied edges sharing the mean of theirs."""
    values, wanted = _finite(scores), _bools(truth)
    n_true, n_other = int(wanted.sum()), int((~wanted).sum())
    from scipy.stats import rankdata

    wins = rankdata(values)[wanted].sum() - n_true * (n_true + 1) / 2
    return _ratio(float(wins), n_true * n_other)


def average_precision(scores: ArrayLike, truth: ArrayLike) -> float:
    """Area under the precision-recall steps; edges with equal scores are taken together."""
    values, wanted = _finite(scores), _bools(truth)
    _, place = np.unique(-values, return_inverse=True)  # 0 for the highest score
    taken = np.cumsum(np.bincount(place))
    hits = np.cumsum(np.bincount(place, weights=wanted))
    gained = np.diff(hits, prepend=0.0)
    return _ratio(float((gained * hits / taken).sum()), int(wanted.sum()))


def ranks_exactly(scores: ArrayLike, truth: ArrayLike) -> bool:
    """Whether every true edge scores above every other one, so that some size is exact."""
    values, wanted = _finite(scores), _bools(truth)
    if wanted.all() or not wanted.any():
        return True
    return bool(values[wanted].min() > values[~wanted].max())


def ranking(scores: ArrayLike, truth: ArrayLike) -> dict[str, Any]:
    """All measures of a ranking as they stand in `result.json`; what has no value is null."""
    area, precision = auroc(scores, truth), average_precision(scores, truth)
    return {
        "auroc": None if np.isnan(area) else area,
        "average_precision": None if np.isnan(precision) else precision,
        "exact": ranks_exactly(scores, truth),
    }


def _bools(values: ArrayLike) -> Bools:
    return np.asarray(values, dtype=np.bool_).ravel()


def _finite(scores: ArrayLike) -> Floats:
    values = np.asarray(scores, dtype=np.float64).ravel()
    if np.isnan(values).any():
        raise ValueError("a score that is not a number has no rank")
    return values


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else float("nan")


MEASURES = (
    Measure(
        "auroc",
        "AUROC",
        "up",
        "P(a true edge scores above another one) + P(they tie) / 2, over all pairs of a true and "
        "another edge; 0.5 for random scores",
        "Conmy et al. 2023; ties as Mann-Whitney",
        "scores and true circuit",
        auroc,
    ),
    Measure(
        "average_precision",
        "average precision",
        "up",
        "Σ (R_k - R_{k-1})·P_k over the distinct scores from high to low; P_k, R_k are precision "
        "and recall of all edges with at least the k-th score",
        "standard",
        "scores and true circuit",
        average_precision,
    ),
    Measure(
        "precision",
        "precision",
        "up",
        "true edges kept / edges kept",
        "standard",
        "circuit and true circuit",
        lambda kept, truth: agreement(kept, truth).precision,
    ),
    Measure(
        "recall",
        "recall",
        "up",
        "true edges kept / true edges",
        "standard",
        "circuit and true circuit",
        lambda kept, truth: agreement(kept, truth).recall,
    ),
    Measure(
        "f1",
        "F1",
        "up",
        "2·true edges kept / (edges kept + true edges)",
        "standard",
        "circuit and true circuit",
        lambda kept, truth: agreement(kept, truth).f1,
    ),
    Measure(
        "exact",
        "exact recovery",
        "up",
        "1 if the edges kept are the true ones and no others, else 0; of a ranking, 1 if every "
        "true edge scores above every other one",
        "standard",
        "circuit and true circuit",
        lambda kept, truth: agreement(kept, truth).exact,
    ),
)
