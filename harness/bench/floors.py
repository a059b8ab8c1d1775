"""The least that every row of the bench can cost, by counting multiply-adds per token.

A dense implementation cannot avoid those of
    blocks  B = L·(A + M), of a layer's attention A = (2H + 2G)·D·K, which is 4·D·H·K where every
            head has its own keys and values, and of its MLP M = 2·D·d_mlp, half as much again if
            gated
    unembedding  U = D·V, of which a row that reads logits at one of T positions needs U/T
    mixing  X = edges·D
A backward of activations costs what its forward does. A plain forward+backward is 3·(B + U), F is
B + U/T, and in these units
    eap                            B + 2F + X        counterfactual; forward, backward; mixing
    eap_ig(k)                      B + 2kF + X       clean run; k runs; one mixing of their sum
    eap_ig_clean_corrupted         4F + X            the same with two runs, which are the two ends
    eap_ig_activations(m)          3B + X + 2m·Σ (what is above a group + U/T)
                                                     counterfactual, clean run and its backward; m
                                                     runs of each of the 2L+1 groups
    node_attribution               B + 2F + (2L+1)·D as eap, with one product for each writer, of
                                                     heads before their output map
    information_flow_routes        B + P·D           clean run; P pairs of a writer and a stream it
                                                     reaches, an addition counted as a multiply-add
    mask_gradient_ig(k)            B + k·(2F + 3X)   counterfactual; mixed once forward, twice
                                                     backward (to writers and to masks)
    edge_pruning step              B + F + 2F + 3X   counterfactual; whole model; the same
    edge_pruning step+kept         2F + 3X
    subnetwork_probing step, uniform_gradient_sampling step: as edge_pruning step
    acdc per edge                  U/T               the answer has to be read in any case
    activation_patching per edge   the reader's own map, what it feeds in its layer, the layers
                                   above, U/T; the mean over edges
    node_patching                  B + F + Σ over writers of (what is above + U/T)
    evaluation                     F + X             evaluation+counterfactual: B + F + X
    abs_topk(share)                3·(B + U)         a plain forward+backward, activations sparse
    training step, training step+budgets, dense training step: as abs_topk; projection: none
    attention, attention+sinks     7·H·K·(T+1)/2     of one layer: scores and mix forward, and five
                                                     such products backward; half of keys are seen
Rows of a small circuit count the nodes that it needs and the edges between them. Ratios can lie
below a floor where the denominator's multiply-adds (weight gradients) run slower.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from harness.bench.rows import (
    HELD_STEPS,
    IG_STEPS,
    KEPT,
    MASK_STEPS,
    OF_DENSE_TRAINING,
    OF_TRAINING,
    SMALL,
)
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.live import LiveNodes
from harness.models.config import TransformerConfig


def floors(config: TransformerConfig, length: int, nodes: LiveNodes) -> dict[str, float]:
    """Least cost of every row in plain forward+backwards; `nodes`: those of the small circuit."""
    work = _Work(config, length)
    blocks, forward, answer = work.blocks, work.blocks + work.answer, work.answer
    mixing = work.graph.n_edges * config.d_model
    masked = 2 * forward + 3 * mixing
    step = blocks + forward + masked
    small_forward, small_mixing = work.blocks_of(nodes) + answer, work.mixing_of(nodes)
    plain = 3 * (blocks + config.d_model * config.n_outputs)
    costs = {
        "eap": blocks + 2 * forward + mixing,
        f"eap_ig({IG_STEPS})": blocks + IG_STEPS * 2 * forward + mixing,
        "edge_pruning step": step,
        "edge_pruning step+kept": masked,
        f"edge_pruning step+kept {SMALL}": 2 * small_forward + 3 * small_mixing,
        "acdc per edge": answer,
        "evaluation": forward + mixing,
        f"evaluation {SMALL}": small_forward + small_mixing,
        "evaluation+counterfactual": blocks + forward + mixing,
        "eap_ig_clean_corrupted": 4 * forward + mixing,
        f"eap_ig_activations({HELD_STEPS})": 3 * blocks + mixing + 2 * HELD_STEPS * work.held(),
        f"mask_gradient_ig({IG_STEPS})": blocks + IG_STEPS * masked,
        "node_attribution": blocks + 2 * forward + (work.parts + 1) * config.d_model,
        "node_patching": blocks + forward + work.replaced(),
        "information_flow_routes": blocks + work.reached() * config.d_model,
        "activation_patching per edge": work.patched() / work.graph.n_edges,
        f"abs_topk({KEPT})": plain,
        **dict.fromkeys(("attention", "attention+sinks"), work.one_attention),
        **dict(zip(OF_TRAINING, (plain, plain, 0.0), strict=True)),
        **dict.fromkeys(OF_DENSE_TRAINING, plain),
        **dict.fromkeys(MASK_STEPS, step),
    }
    return {name: cost / plain for name, cost in costs.items()}


@dataclass(frozen=True)
class _Work:
    """Multiply-adds per token of a model's parts, for prompts of `length` tokens."""

    config: TransformerConfig
    length: int

    @cached_property
    def graph(self) -> Graph:
        return Graph.of(self.config)

    @property
    def one_map(self) -> int:
        """Of one query, key, value or output map."""
        return self.config.d_model * self.config.d_head

    @property
    def heads(self) -> int:
        """Of a layer's attention, all of whose outputs are projected."""
        return (self.config.n_read_maps + self.config.n_heads) * self.one_map

    @property
    def one_attention(self) -> float:
        """Of a layer's scores and mixes, forward and backward, under a causal mask."""
        return 3.5 * self.config.n_heads * self.config.d_head * (self.length + 1)

    @property
    def mlp(self) -> int:
        return (3 if self.config.gated else 2) * self.config.d_model * self.config.d_mlp

    @property
    def parts(self) -> int:
        """Attentions and MLPs."""
        return self.config.n_layers * (1 + self.config.has_mlp)

    @property
    def blocks(self) -> int:
        return self.config.n_layers * (self.heads + self.mlp)

    @property
    def answer(self) -> float:
        """Of reading logits at one position."""
        return self.config.d_model * self.config.d_vocab / self.length

    def above(self, layer: int) -> int:
        """Of the layers above one."""
        return (self.config.n_layers - 1 - layer) * (self.heads + self.mlp)

    def after_heads(self, layer: int) -> int:
        """Of what a change of a layer's attention output changes: its MLP too, if in series."""
        return self.above(layer) + (0 if self.config.parallel else self.mlp)

    def blocks_of(self, nodes: LiveNodes) -> int:
        """Of the nodes of a small circuit."""
        group = self.heads // self.config.n_groups
        return sum(map(len, nodes.groups)) * group + sum(nodes.mlps) * self.mlp

    def mixing_of(self, nodes: LiveNodes) -> int:
        """Of the edges between these."""
        return int(nodes.of(nodes.graph.allowed).sum()) * self.config.d_model

    def held(self) -> float:
        """Of a forward above each group of writers in turn: inputs, a layer's heads, an MLP."""
        layers = range(self.config.n_layers)
        of_mlps = int(self.config.has_mlp)
        above = sum(self.after_heads(layer) + of_mlps * self.above(layer) for layer in layers)
        return self.blocks + above + (self.parts + 1) * self.answer

    def replaced(self) -> float:
        """Of a forward above each writer in turn."""
        layers, graph = range(self.config.n_layers), self.graph
        of_mlps = int(graph.mlps)
        above = sum(graph.n_heads * self.after_heads(x) + of_mlps * self.above(x) for x in layers)
        return graph.n_inputs * self.blocks + above + graph.n_writers * self.answer

    def reached(self) -> int:
        """Pairs of a writer and a stream that it reaches: before attentions, MLPs and logits."""
        graph = self.graph
        below = sum(map(graph.before_attention, range(graph.n_layers)))
        below += sum(map(graph.before_mlp, range(graph.n_layers))) if graph.mlps else 0
        return below + graph.n_writers

    def patched(self) -> float:
        """Of a forward from each edge's reader on, one edge at a time."""
        config, graph = self.config, self.graph
        each = config.n_heads // config.n_groups
        readers = config.n_heads + 2 * config.n_groups
        # A query feeds one head, a key or value those of its group; their outputs are projected.
        own = (readers + config.n_heads + 2 * config.n_groups * each) * self.one_map
        total = graph.n_edges * self.answer
        for layer in range(config.n_layers):
            at_one = own + readers * self.after_heads(layer)
            total += graph.before_attention(layer) * at_one
            if graph.mlps:
                total += graph.before_mlp(layer) * (self.mlp + self.above(layer))
        return total
