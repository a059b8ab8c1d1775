"""Overlap of circuits: shared elements and shared components.

    IoU            |A ∩ B| / |A ∪ B|         (Edge Pruning's consistency over seeds, appendix D)
    of smaller     |A ∩ B| / min(|A|, |B|)   (its comparison of two circuits of one model)
    expected IoU   mean IoU of two random sets of these sizes: the overlap expected by chance

All are shares in [0, 1]; 0/0 (two empty circuits; a smaller one that is empty) is NaN. Nodes are
the heads and MLPs that a kept edge touches: input and logits are in every circuit that is
not empty, and would inflate every IoU. Random sets are uniform; circuits are connected, so by
chance they share somewhat more, above all when they are small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.space import require_same_space
from harness.metrics.overlap import expected_iou, iou, of_smaller
from harness.metrics.statistics import jackknife_interval


@dataclass(frozen=True)
class Overlap:
    """Overlap of two sets; `shared` is a count, the others are shares in [0, 1]."""

    sizes: tuple[int, int]
    shared: int
    iou: float
    of_smaller: float
    expected_iou: float

    @classmethod
    def of(cls, a: Tensor, b: Tensor, total: int) -> Overlap:
        """Of two sets given as bool tensors of one shape, out of `total` possible members."""
        sizes = int(a.sum()), int(b.sum())
        shared = int((a & b).sum())
        return cls(
            sizes,
            shared,
            iou(shared, *sizes),
            of_smaller(shared, *sizes),
            expected_iou(*sizes, total),
        )


@dataclass(frozen=True)
class Consistency:
    """Pairwise IoU of `n` sets: its mean, its range, and its mean by chance.

    `low`, `high`: the mean's 95 % interval over such sets (`jackknife_interval`, each set left out
    in turn); NaN for two. Not clipped to [0, 1].
    """

    n: int
    mean: float
    low: float
    high: float
    least: float
    most: float
    expected: float

    @classmethod
    def of(cls, sets: Sequence[Tensor], total: int) -> Consistency:
        """Of at least two sets (bool tensors of one shape). Raises ValueError for fewer."""
        n = len(sets)
        if n < 2:
            raise ValueError("consistency needs two sets")
        pairs = [Overlap.of(a, b, total) for a, b in combinations(sets, 2)]
        values = np.array([pair.iou for pair in pairs])
        mean, expected = values.mean(), np.mean([pair.expected_iou for pair in pairs])
        low, high = _interval(values, n)
        numbers = (mean, low, high, values.min(), values.max(), expected)
        return cls(n, *map(float, numbers))


@dataclass(frozen=True)
class Between:
    """IoU of every set of one group with every one of another: mean, range, mean by chance.

    `of_smaller`: the mean share of the smaller set that is in the larger one.
    """

    pairs: int
    mean: float
    least: float
    most: float
    of_smaller: float
    expected: float

    @classmethod
    def of(cls, some: Sequence[Tensor], others: Sequence[Tensor], total: int) -> Between:
        """Of two groups of at least one set each (bool tensors of one shape)."""
        pairs = [Overlap.of(a, b, total) for a in some for b in others]
        ious = np.array([pair.iou for pair in pairs])
        numbers = (
            ious.mean(),
            ious.min(),
            ious.max(),
            np.mean([pair.of_smaller for pair in pairs]),
            np.mean([pair.expected_iou for pair in pairs]),
        )
        return cls(len(pairs), *map(float, numbers))


def _interval(values: NDArray[np.float64], n: int) -> tuple[float, float]:
    """Of the mean of values over all pairs of n things, in the order of `combinations`."""
    if n < 3:
        return math.nan, math.nan
    ends = np.array(list(combinations(range(n), 2)))
    without = [values[(ends != i).all(1)].mean() for i in range(n)]
    return jackknife_interval(float(values.mean()), np.array(without))


def element_overlap(a: Circuit, b: Circuit) -> Overlap:
    """Overlap of two circuits' elements. Raises `HarnessError` if their spaces differ."""
    require_same_space(a.space, b.space)
    return Overlap.of(a.kept, b.kept, len(a.space))


def node_overlap(a: Circuit, b: Circuit) -> Overlap:
    """Overlap of two circuits' heads and MLPs. Raises `HarnessError` if their spaces differ."""
    require_same_space(a.space, b.space)
    nodes = components(a), components(b)
    return Overlap.of(*nodes, len(nodes[0]))


def element_between(some: Sequence[Circuit], others: Sequence[Circuit]) -> Between:
    """Element IoU of circuits of two groups. Raises `HarnessError` if their spaces differ."""
    _require_same_spaces([*some, *others])
    total = len(some[0].space)
    return Between.of([one.kept for one in some], [one.kept for one in others], total)


def node_between(some: Sequence[Circuit], others: Sequence[Circuit]) -> Between:
    """IoU of components. Raises `HarnessError` if their spaces differ."""
    _require_same_spaces([*some, *others])
    a, b = ([components(one) for one in group] for group in (some, others))
    return Between.of(a, b, len(a[0]))


def element_consistency(circuits: Sequence[Circuit]) -> Consistency:
    """Pairwise element IoU of a method's circuits, one per seed (best of twelve or more)."""
    _require_same_spaces(circuits)
    return Consistency.of([circuit.kept for circuit in circuits], len(circuits[0].space))


def node_consistency(circuits: Sequence[Circuit]) -> Consistency:
    """Pairwise IoU of the circuits' components."""
    _require_same_spaces(circuits)
    sets = [components(circuit) for circuit in circuits]
    return Consistency.of(sets, len(sets[0]))


def components(circuit: Circuit) -> Tensor:
    """Which components (heads, MLPs, …) the circuit uses: bool [C], in the space's order."""
    return circuit.space.touched(circuit.kept)


def _require_same_spaces(circuits: Sequence[Circuit]) -> None:
    for other in circuits[1:]:
        require_same_space(circuits[0].space, other.space)
