"""How far circuits are the same: shared edges and shared nodes.

    IoU            |A ∩ B| / |A ∪ B|         (Edge Pruning's consistency over seeds, appendix D)
    of smaller     |A ∩ B| / min(|A|, |B|)   (its comparison of two circuits of one model)
    expected IoU   mean IoU of two random sets of these sizes: what two methods share by luck

All are shares in [0, 1]; 0/0 (two empty circuits; a smaller one that is empty) is NaN. Nodes are
the heads and MLPs that a kept edge touches: input and logits are in every circuit that does
anything, so they would flatter all. Random sets are uniform; circuits are connected, so by luck
they share somewhat more, most of all where they are small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.errors import HarnessError


@dataclass(frozen=True)
class Overlap:
    """How far two sets are the same; `shared` counts, the others are shares in [0, 1]."""

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
            _ratio(shared, sum(sizes) - shared),
            _ratio(shared, min(sizes)),
            expected_iou(*sizes, total),
        )


@dataclass(frozen=True)
class Consistency:
    """Pairwise IoU of `n` sets: its mean, its range, and its mean if they were random."""

    n: int
    mean: float
    low: float
    high: float
    expected: float

    @classmethod
    def of(cls, sets: Sequence[Tensor], total: int) -> Consistency:
        """Of at least two sets (bool tensors of one shape). Raises ValueError for fewer."""
        if len(sets) < 2:
            raise ValueError("consistency needs two sets")
        pairs = [Overlap.of(a, b, total) for a, b in combinations(sets, 2)]
        values = np.array([pair.iou for pair in pairs])
        expected = float(np.mean([pair.expected_iou for pair in pairs]))
        mean, low, high = (float(f(values)) for f in (np.mean, np.min, np.max))
        return cls(len(sets), mean, low, high, expected)


def edge_overlap(a: Circuit, b: Circuit) -> Overlap:
    """Overlap of two circuits' edges. Raises `HarnessError` if their graphs differ."""
    require_same_graph(a, b)
    return Overlap.of(a.kept, b.kept, a.graph.n_edges)


def node_overlap(a: Circuit, b: Circuit) -> Overlap:
    """Overlap of two circuits' heads and MLPs. Raises `HarnessError` if their graphs differ."""
    require_same_graph(a, b)
    nodes = components(a), components(b)
    return Overlap.of(*nodes, len(nodes[0]))


def edge_consistency(circuits: Sequence[Circuit]) -> Consistency:
    """Pairwise edge IoU of a method's circuits, one for each seed (twelve or more say much)."""
    for other in circuits[1:]:
        require_same_graph(circuits[0], other)
    return Consistency.of([circuit.kept for circuit in circuits], circuits[0].graph.n_edges)


def components(circuit: Circuit) -> Tensor:
    """Which heads and MLPs a kept edge touches: bool [L(H+1)], in the order of writers."""
    return torch.tensor(list(circuit.nodes().values()))[circuit.graph.n_inputs : -1]


def require_same_graph(a: Circuit, b: Circuit) -> None:
    """Refuse to compare circuits of different graphs."""
    if a.graph != b.graph:
        raise HarnessError(
            f"circuits of different graphs cannot be compared: {a.graph} and {b.graph}; "
            "both must have been found in models of one shape with the same `inputs` and "
            "`positions`"
        )


def expected_iou(a: int, b: int, total: int) -> float:
    """E[k / (a + b - k)] with k hypergeometric: IoU of random sets of a and b out of `total`.

    Exact: probabilities are products of the ratios P(k+1)/P(k), summed in logarithms.
    """
    if not 0 <= min(a, b) <= max(a, b) <= total:
        raise ValueError(f"sets of {a} and {b} members do not fit into {total}")
    if a + b == 0:
        return math.nan
    k = np.arange(max(0, a + b - total), min(a, b) + 1, dtype=np.float64)
    here = k[:-1]
    ratios = (a - here) * (b - here) / ((here + 1) * (total - a - b + here + 1))
    logs = np.concatenate([[0.0], np.cumsum(np.log(ratios))])
    weights = np.exp(logs - logs.max())
    return float(weights @ (k / (a + b - k)) / weights.sum())


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
