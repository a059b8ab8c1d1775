"""Circuits of edges that hang together: greedy growth from the logits, removal of dead ends.

Ranks are [W, R] with any value at impossible edges; kept edges are bool [W, R]. Both are [T, W, R]
where each position has its own edges.
"""

from __future__ import annotations

import heapq

import torch
from torch import Tensor

from harness.circuits.edges.flow import fed_nodes, feeding_readers
from harness.circuits.edges.graph import Graph
from harness.circuits.patchable import OF_A_RUN
from harness.spec.types import Ablation


def grow(ranks: Tensor, graph: Graph, n: int) -> Tensor:
    """Grow n edges backwards from `logits`: always the best-ranked edge into a node already in.

    Guarantees that every chosen edge leads to the logits (Hanna et al. 2024).
    """
    ranks, allowed = graph.by_place(ranks.cpu()), graph.by_place(graph.allowed)
    kept = torch.zeros_like(allowed)
    nodes = torch.zeros(graph.n_places, graph.n_writers + 1, dtype=torch.bool)
    offered = torch.zeros(graph.n_places, graph.n_readers, dtype=torch.bool)
    heap: list[tuple[float, int, int, int]] = []

    def enter(entered: Tensor) -> None:
        """Offer all edges into readers that the nodes [P, W+1] are the first to hear of."""
        nodes.logical_or_(entered)
        new = feeding_readers(entered, graph) & ~offered
        offered.logical_or_(new)
        for place, column in new.nonzero().tolist():
            for row in allowed[place, :, column].nonzero().flatten().tolist():
                heapq.heappush(heap, (-float(ranks[place, row, column]), place, row, column))

    logits = torch.zeros_like(nodes)
    logits[:, -1] = graph.answers
    enter(logits)
    for _ in range(n):
        if not heap:
            break
        _, place, row, column = heapq.heappop(heap)
        kept[place, row, column] = True
        if not nodes[place, row]:
            writer = torch.zeros_like(nodes)
            writer[place, row] = True
            enter(writer)
    return kept.view(graph.allowed.shape)


def prune(kept: Tensor, graph: Graph, ablation: Ablation) -> Tensor:
    """Drop dead ends: the edges that surely change no logit under an ablation.

    An edge into a node with no path to `logits` never does. An edge from a writer with no path
    from the inputs does not where dropped edges carry what another run wrote (`OF_A_RUN`): that
    writer hears what it heard in that run, so it writes the same, and its difference is zero.
    Under the other ablations such a writer computes something from its biases and from what the
    dropped edges carry, which need not be what it is replaced by; its edges stay. A head counts
    as reached when any of its q, k, v is. Without input writers (`inputs: none`) every node is.
    Where positions have edges of their own, a path goes from one to another through keys and values
    alone, and ends where an answer is read. The circuit's logits are the same before and after, but
    for rounding.
    """
    kept = graph.by_place(kept & graph.allowed)
    deaf_differ = ablation not in OF_A_RUN
    while True:
        reached = fed_nodes(kept.any(1), graph)[:, :-1] | deaf_differ
        reached[:, : graph.n_inputs or graph.n_writers] = True  # inputs need nothing
        alive = reached & kept.any(2)  # reached, and read by somebody
        heard = feeding_readers(torch.cat([alive, graph.answers[:, None]], 1), graph)
        smaller = kept & alive[:, :, None] & heard[:, None, :]
        if torch.equal(smaller, kept):
            return kept.view(graph.allowed.shape)
        kept = smaller
