"""Which concept a feature stands for, if any: chosen on training games, confirmed on held-out ones.

A label is a concept and a threshold. Where the feature is on, the concept must be true nearly
always (precision), the feature must be on at a fair share of the concept's tokens (recall), and,
since precision alone is easily had where a concept is nearly always true, the feature must remove
half of the doubt that is left by knowing the position alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from harness.datasets.concepts import Bools
from harness.interpretation.counts import SHARES, ConceptCounts, Floats

PRECISION, RECALL, DOUBT, TOKENS = 0.95, 0.1, 0.5, 10
"""Least precision, recall, share of the doubt removed, and tokens at which both are true."""


@dataclass(frozen=True)
class Label:
    """The concept (a column) of a feature, and what held-out games say of it.

    `threshold`: as a share of the feature's reference. `base`: precision of a feature that knows
    the position alone. `confirmed`: whether the criterion holds on held-out games too. `auroc`: of
    the feature's strength, over all held-out tokens; None where the concept is never or always
    true.
    """

    feature: int
    concept: int
    threshold: float
    precision: float
    recall: float
    f1: float
    base: float
    confirmed: bool
    auroc: float | None


def precise(counts: ConceptCounts) -> Bools:
    """Where precision and tokens suffice, whatever the base rate: [S, F, C]."""
    return (counts.precision >= PRECISION) & (counts.both >= TOKENS)


def meets(counts: ConceptCounts) -> Bools:
    """Where the whole criterion is met: [S, F, C]."""
    return precise(counts) & _informed(counts) & (counts.recall >= RECALL)


def _informed(counts: ConceptCounts) -> Bools:
    """Where half of the doubt is removed that the position leaves: [S, F, C]."""
    precision, base = counts.precision, counts.base
    informed: Bools = precision - base >= DOUBT * (1 - base)
    return informed


def choose(counts: ConceptCounts) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Threshold and concept of the best F1 among what meets the criterion [F]; -1 if none does."""
    return _best(counts, meets(counts))


def _best(counts: ConceptCounts, among: Bools) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Threshold and concept of the best F1 among some [S, F, C]: [F], -1 where there is none."""
    _, features, concepts = counts.both.shape
    f1 = np.where(among, counts.f1, -1.0)
    flat = f1.transpose(1, 0, 2).reshape(features, -1)
    best = flat.argmax(1)
    none = flat[np.arange(features), best] < 0
    share, concept = np.divmod(best, concepts)
    return np.where(none, -1, share), np.where(none, -1, concept)


@dataclass(frozen=True)
class Leaning:
    """The concept that a feature comes closest to, on held-out games; no label: it may be loose.

    Of the concepts of which it removes half of the doubt that the position leaves, that of the best
    F1 at any threshold.
    """

    feature: int
    concept: int
    f1: float


def leanings_of(training: ConceptCounts, held_out: ConceptCounts) -> list[Leaning]:
    """The concepts that training games suggest, with their F1 on held-out games, by feature."""
    more = (training.precision > training.base) & (training.both >= TOKENS)
    share, concept = _best(training, _informed(training) & more)
    f1 = held_out.f1
    return [
        Leaning(
            feature, int(concept[feature]), float(f1[share[feature], feature, concept[feature]])
        )
        for feature in np.flatnonzero(concept >= 0).tolist()
    ]


def labels_of(
    training: ConceptCounts, held_out: ConceptCounts, aurocs: dict[int, float | None]
) -> list[Label]:
    """The labels that training games suggest, with their numbers on held-out games."""
    share, concept = choose(training)
    confirmed = meets(held_out)
    precision, recall, f1 = held_out.precision, held_out.recall, held_out.f1
    base = held_out.base
    labels = []
    for feature in np.flatnonzero(concept >= 0).tolist():
        at = (share[feature], feature, concept[feature])
        labels.append(
            Label(
                feature,
                int(concept[feature]),
                SHARES[int(share[feature])],
                float(precision[at]),
                float(recall[at]),
                float(f1[at]),
                float(base[at]),
                bool(confirmed[at]),
                aurocs.get(feature),
            )
        )
    return labels


def auroc(strength: NDArray[np.floating], truth: Bools) -> float | None:
    """P(a true token is stronger) + ½ P(as strong), of strengths and truth [N]."""
    n_true = int(truth.sum())
    n_false = len(truth) - n_true
    if not n_true or not n_false:
        return None
    ranks = rankdata(strength)
    return float((ranks[truth].sum() - n_true * (n_true + 1) / 2) / (n_true * n_false))


def coverage(counts: ConceptCounts, columns: slice) -> float:
    """Mean over a family's realised concepts of the best F1 of any feature, at the best threshold.

    Karvonen et al. 2024, but over realised concepts: theirs divides by some that cannot occur.
    """
    realised = counts.realised[columns]
    if not realised.any():
        return 0.0
    best: Floats = counts.f1[..., columns].max(1)[:, realised].mean(1)
    return float(best.max())


def detected(code: NDArray[np.float32], detectors: Bools, thresholds: NDArray[np.float32]) -> Bools:
    """What strengths [N, F] say is true [N, C]: a concept if any feature of it is on.

    `detectors` [S, F, C]: which feature, on at which threshold [S, F], says which concept. Each
    feature speaks at every threshold at which it is a detector, so that one that is precise only
    where it is strong and one that is precise wherever it is active both count.
    """
    said = np.zeros((len(code), detectors.shape[2]), np.bool_)
    for floor, of_level in zip(thresholds, detectors, strict=True):
        used = of_level.any(1)
        on = (code[:, used] > floor[used]).astype(np.float32)
        said |= (on @ of_level[used].astype(np.float32)) > 0
    return said


class RebuiltBoards:
    """How much of the board what was said rebuilds: counts for each of C concepts."""

    def __init__(self, concepts: int) -> None:
        self.hits, self.said, self.true = (np.zeros(concepts) for _ in range(3))

    def add(self, said: Bools, truth: Bools) -> None:
        """Take what was said and what is true of N tokens [N, C]."""
        self.hits += (said & truth).sum(0)
        self.said += said.sum(0)
        self.true += truth.sum(0)

    def f1(self, columns: slice) -> float:
        """F1 over all tokens and the concepts of some columns."""
        whole = self.said[columns].sum() + self.true[columns].sum()
        return float(2 * self.hits[columns].sum() / max(1.0, whole))
