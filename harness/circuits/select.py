"""From scores per edge to circuits: ranking, greedy growth, removal of dead ends.

Scores are [W, R] with any value at impossible edges; kept edges are bool [W, R].
"""

from __future__ import annotations

import heapq

import torch
from torch import Tensor

from harness.circuits.graph import Graph
from harness.circuits.reference import OF_A_RUN
from harness.spec.types import Ablation, Selection


def strength(scores: Tensor, order: str) -> Tensor:
    """What edges are ranked by: the score (`signed`) or its magnitude (`absolute`)."""
    return scores.abs() if order == "absolute" else scores


def top_n(scores: Tensor, graph: Graph, n: int, order: str = "absolute") -> Tensor:
    """The n strongest edges; ties go to the edge that comes first by row, then column."""
    allowed = graph.allowed
    ranked = strength(scores, order)[allowed].argsort(descending=True, stable=True)
    chosen = torch.zeros(len(ranked), dtype=torch.bool)
    chosen[ranked[:n].cpu()] = True
    kept = torch.zeros_like(allowed)
    kept[allowed] = chosen
    return kept


def greedy(scores: Tensor, graph: Graph, n: int, order: str = "absolute") -> Tensor:
    """Grow n edges backwards from `logits`: always the strongest edge into a node already in.

    Guarantees that every chosen edge leads to the logits (Hanna et al. 2024).
    """
    ranks = strength(scores, order).masked_fill(~graph.allowed, -torch.inf).cpu()
    columns = [nodes.nonzero().flatten().tolist() for nodes in graph.owners.T]
    kept = torch.zeros_like(graph.allowed)
    entered = {graph.n_writers}
    heap: list[tuple[float, int, int]] = []

    def offer(node: int) -> None:
        for column in columns[node]:
            rows = graph.allowed[:, column].nonzero().flatten().tolist()
            for row in rows:
                heapq.heappush(heap, (-float(ranks[row, column]), row, column))

    offer(graph.n_writers)
    for _ in range(n):
        if not heap:
            break
        _, row, column = heapq.heappop(heap)
        kept[row, column] = True
        if row not in entered:
            entered.add(row)
            offer(row)
    return kept


def prune(kept: Tensor, graph: Graph, ablation: Ablation) -> Tensor:
    """Drop dead ends: the edges that surely change no logit under an ablation.

    An edge into a node with no path to `logits` never does. An edge from a writer with no path
    from the inputs does not where dropped edges carry what another run wrote (`OF_A_RUN`): that
    writer hears what it heard in that run, so it writes the same, and its difference is zero.
    Under the other ablations such a writer computes something from its biases and from what the
    dropped edges carry, which need not be what it is replaced by; its edges stay. A head counts
    as reached when any of its q, k, v is. Without input writers (`inputs: none`) every node is.
    The circuit's logits are the same before and after, but for rounding.
    """
    kept = kept & graph.allowed
    deaf_differ = ablation not in OF_A_RUN
    while True:
        reached = graph.owners[kept.any(0)].any(0) | deaf_differ
        reached[: graph.n_inputs or graph.n_writers] = True  # inputs need nothing
        alive = reached[:-1] & kept.any(1)  # reached, and read by somebody
        owner_alive = (graph.owners[:, :-1] & alive).any(1)
        owner_alive[graph.logits_column] = True
        smaller = kept & alive[:, None] & owner_alive[None, :]
        if torch.equal(smaller, kept):
            return kept
        kept = smaller


def sizes_to_counts(sizes: tuple[float, ...], n_edges: int) -> list[int]:
    """Edges requested at each share of the graph: ⌊share·edges⌋, as MIB rounds."""
    return [int(size * n_edges) for size in sizes]


def select(
    scores: Tensor, graph: Graph, n: int, selection: Selection, ablation: Ablation
) -> Tensor:
    """A circuit of at most n edges by a selection rule, dead ends removed."""
    rule = {"top_n": top_n, "greedy": greedy}[selection.rule]
    return prune(rule(scores.cpu(), graph, n, selection.order), graph, ablation)
