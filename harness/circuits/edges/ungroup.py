"""Key/value groups written out for every head: of a circuit, for tools that know no groups; of a
model, where each query head has key and value edges of its own (`key_value_edges: per_head`).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.mib import edges_of
from harness.circuits.edges.space import EdgeSpace
from harness.models.transformer import Transformer


def ungrouped_model(model: Transformer) -> Transformer:
    """The same function with maps to keys and values of every head; unchanged if none are shared.

    A group's maps are repeated for each of its heads: (H - G)·2·K·D numbers more in every layer.
    All other weights are those of `model`, not copies.
    """
    config = model.config
    each = config.n_heads // config.n_groups
    if each == 1:
        return model
    with torch.device("meta"):
        whole = Transformer(replace(config, n_key_value_heads=None))
    weights = model.state_dict()
    for name in weights:
        if ".qkv_map." in name:
            maps = weights[name].unflatten(0, (-1, config.d_head))
            q, shared = maps[: config.n_heads], maps[config.n_heads :]
            weights[name] = torch.cat([q, shared.repeat_interleave(each, 0)]).flatten(0, 1)
    whole.load_state_dict(weights, assign=True)
    return whole.requires_grad_(model.embedding.requires_grad).train(model.training)


def ungrouped(circuit: Circuit, *, additive: bool) -> Circuit:
    """The same circuit with k and v readers of every head; unchanged where nothing is shared.

    An edge into a group's k or v becomes one edge into that of each of its heads, all kept or all
    dropped. `additive` scores are sums over what reads an edge (attribution): each of these edges
    gets an equal part, so that the sum over edges stays the same. Others (a probability of being
    kept, a threshold) only rank edges: each gets the whole score, so that the order stays.
    """
    space = edges_of(circuit)
    graph = space.graph
    if graph.n_groups is None:
        return circuit
    whole = EdgeSpace(replace(graph, n_groups=None))
    each = graph.n_heads // graph.n_groups

    def spread(flat: Tensor, share: float | None = None) -> Tensor:
        return whole.flat(_spread(space.matrix(flat), graph, share))

    return replace(
        circuit,
        space=whole,
        kept=spread(circuit.kept),
        scores=None
        if circuit.scores is None
        else spread(circuit.scores, 1 / each if additive else None),
    )


def _spread(values: Tensor, graph: Graph, share: float | None = None) -> Tensor:
    """Columns [..., R] of groups repeated for each of their heads, times `share` if given."""
    each = graph.n_heads // graph.groups
    parts = []
    for layer in range(graph.n_layers):
        columns = values[..., graph.qkv_columns(layer)]
        q, shared = columns[..., : graph.n_heads], columns[..., graph.n_heads :]
        repeated = shared.repeat_interleave(each, -1)
        parts += [q, repeated if share is None else repeated * share]
        if graph.mlps:
            parts.append(values[..., graph.mlp_column(layer), None])
    return torch.cat([*parts, values[..., graph.logits_column, None]], -1)
