"""How much of a traced graph runs through what it explains, and not through errors.

With A the magnitudes of edges, each row (what goes into a node or the target) divided by its sum,
and w = 1 at the target:

    influence     w · (A + A² + …)
    replacement   tokens / (tokens + errors), the influence of these nodes
    completeness  Σ (1 - share of errors in a row) · (influence + w) / Σ (influence + w)

Source: Ameisen et al. 2025, *Circuit tracing*, and the code of circuit-tracer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.tracing.trace import PromptTrace

TOKENS = ("embed", "position")


@dataclass(frozen=True)
class GraphScores:
    """Scores of a graph; None where nothing reaches tokens or errors.

    `influence`: of each node, in the order of the graph's nodes.
    """

    influence: Sequence[float]
    replacement: float | None
    completeness: float | None


def graph_scores(graph: PromptTrace) -> GraphScores:
    """Scores of a graph whose nodes are in order of computation."""
    target = len(graph.nodes)
    rows: list[list[tuple[int, float]]] = [[] for _ in range(target + 1)]
    for edge in graph.edges:
        into = target if edge.into is None else edge.into
        rows[into].append((edge.source, abs(edge.weight)))
    errors = {at for at, node in enumerate(graph.nodes) if node.kind == "error"}
    influence = [0.0] * target + [1.0]
    clean = total = 0.0
    for into in reversed(range(target + 1)):
        size = sum(weight for _, weight in rows[into])
        wrong = 0.0
        for source, weight in rows[into]:
            share = weight / size
            influence[source] += influence[into] * share
            wrong += share if source in errors else 0.0
        clean += (1 - wrong) * influence[into]
        total += influence[into]
    tokens = sum(influence[at] for at, node in enumerate(graph.nodes) if node.kind in TOKENS)
    missing = sum(influence[at] for at in errors)
    replacement = tokens / (tokens + missing) if tokens + missing > 0 else None
    return GraphScores(influence[:-1], replacement, clean / total if graph.edges else None)
