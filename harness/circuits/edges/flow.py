"""How what an edge carries goes on: from readers to the nodes they feed, and back, over positions.

A place is a token position, or all of them together where edges are shared: then there is one
place, which looks at itself. A query, an MLP and the logits use what they read where they read it;
a key or value is used at every place that looks at its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.circuits.edges.graph import Graph


def touched_nodes(kept: Tensor, graph: Graph) -> Tensor:
    """Nodes [W+1], `logits` last, that kept edges [W, R] (or [T, W, R]) go out of or into."""
    kept = graph.by_place(kept).any(0)
    touched = graph.owners[kept.any(0)].any(0)
    touched[:-1] |= kept.any(1)
    return touched


def fed_nodes(readers: Tensor, graph: Graph) -> Tensor:
    """Nodes [P, W+1] that hear of `readers` bool [P, R]; the last node is `logits`."""
    noticed = _through_attention(readers, graph.looked_at.T, graph)
    return _some(noticed, graph.owners)


def feeding_readers(nodes: Tensor, graph: Graph) -> Tensor:
    """Readers [P, R] that some of `nodes` bool [P, W+1] hear of: the way back of `fed_nodes`."""
    return _through_attention(_some(nodes, graph.owners.T), graph.looked_at, graph)


def _through_attention(readers: Tensor, looks: Tensor, graph: Graph) -> Tensor:
    """Readers [P, R], keys and values moved from each place to those that it `looks` [P, P] to."""
    columns = graph.key_value_columns
    return torch.where(columns, _some(looks, readers), readers)


def _some(left: Tensor, right: Tensor) -> Tensor:
    """Product of two bool matrices: whether there is any way."""
    return left.float() @ right.float() > 0
