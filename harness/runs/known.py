"""Agreement of what a method found with the true circuit of a compiled program."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from harness.circuits.edges.select import strength
from harness.circuits.ground_truth import KnownCircuit
from harness.discovery.found import circuit_of, ranking_for
from harness.discovery.problem import Discovery
from harness.evaluation.ground_truth import agreement, ranking
from harness.spec.types import Ablation, Selection


def known_agreement(
    known: KnownCircuit, found: Discovery, selection: Selection, ablation: Ablation
) -> dict[str, Any]:
    """`known` of `result.json`: scores against the true edges, and the circuit of their number.

    The ranking is the one that circuits of that number are cut from: by magnitude unless the
    selection says otherwise. The circuit is cut as every other one is, dead ends removed.
    """
    graph = known.graph
    truth = known.kept[graph.allowed].numpy()
    ranked = strength(ranking_for(found, known.size), selection.order)
    ranks = ranking(ranked[graph.allowed].numpy(), truth)
    kept = circuit_of(found, graph, known.size, selection, ablation)
    cut = agreement(kept[graph.allowed].numpy(), truth)
    return {
        "size": known.size,
        "smallest_effect": _number(known.smallest_effect),
        "largest_other": known.largest_other,
        "auroc": ranks["auroc"],
        "average_precision": ranks["average_precision"],
        "ranked": bool(ranks["exact"]),
        "precision": _number(cut.precision),
        "recall": _number(cut.recall),
        "f1": _number(cut.f1),
        "exact": cut.exact,
    }


def _number(value: float) -> float | None:
    return float(np.float64(value)) if math.isfinite(value) else None
