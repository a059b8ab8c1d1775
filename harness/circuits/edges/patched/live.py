"""The nodes that a patched pass has to run: masks that are exactly zero leave many out.

A node is left out if nothing that the logits hear of comes from it, or if nothing that differs
from the counterfactual reaches it: then it writes what it writes in the counterfactual (this only
where that is one run of the model, `Activations.of_a_run`; a constant is not what a node makes of
its constant inputs). What is left out writes a difference of zero, or none that anyone reads, so
the logits stay the same; so do the gradients of all masks that are not zero.

Heads are left out by key/value group, a node of itself where nothing is shared. Nothing is left out
of models with post-norms, where heads of a layer are normalised together.

The rest is numbered anew, as writers 0 … w-1 and readers 0 … r-1 in the graph's order, so that
buffers and products have the size of what is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.circuits.edges.graph import Graph

WORTH = 0.9
"""Fewer are run only if they are at most this share of the nodes: leaving out copies weights."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class LiveNodes:
    """Those of a graph that are run: by layer its groups of heads, and whether its MLP is."""

    graph: Graph
    groups: tuple[tuple[int, ...], ...]
    mlps: tuple[bool, ...]

    @classmethod
    def all(cls, graph: Graph) -> LiveNodes:
        """Every node."""
        groups = (tuple(range(graph.groups)),) * graph.n_layers
        return cls(graph, groups, (graph.mlps,) * graph.n_layers)

    @classmethod
    def under(cls, graph: Graph, masks: Tensor, *, of_a_run: bool) -> LiveNodes:
        """Those that masks [..., W, R] leave something to do; all where that saves too little.

        A node lives that lives under any of the masks, at any position.
        """
        used = (masks != 0).flatten(0, -3).any(0).cpu().numpy() & graph.allowed_at_one.numpy()
        heads, mlps = _heard(graph, used)
        if of_a_run:
            reached_heads, reached_mlps = _reached(graph, used)
            heads, mlps = heads & reached_heads, mlps & reached_mlps
        live = cls(
            graph,
            tuple(tuple(row.nonzero()[0].tolist()) for row in heads),
            tuple(mlps.tolist()),
        )
        return live if live.n_writers <= WORTH * graph.n_writers else cls.all(graph)

    @cached_property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self.n_writers == self.graph.n_writers

    @property
    def _each(self) -> int:
        """Heads of a group."""
        return self.graph.n_heads // self.graph.groups

    # ------------------------------------------------------------ rows and columns, numbered anew
    @cached_property
    def _starts(self) -> list[int]:
        """The row of each layer's first head; then the number of writers."""
        per_layer = [
            len(groups) * self._each + mlp
            for groups, mlp in zip(self.groups, self.mlps, strict=True)
        ]
        return list(accumulate(per_layer, initial=self.graph.n_inputs))

    @cached_property
    def _columns(self) -> list[int]:
        """The column of each layer's first reader; then that of the logits."""
        per_layer = [
            len(groups) * (self._each + 2) + mlp
            for groups, mlp in zip(self.groups, self.mlps, strict=True)
        ]
        return list(accumulate(per_layer, initial=0))

    @property
    def n_writers(self) -> int:
        """Input writers and live nodes."""
        return self._starts[-1]

    def before_attention(self, layer: int) -> int:
        """How many live writers the heads of a layer can read."""
        return self._starts[layer]

    def before_mlp(self, layer: int) -> int:
        """How many live writers the MLP of a layer can read."""
        heads = self.head_rows(layer)
        return heads.start if self.graph.parallel else heads.stop

    def head_rows(self, layer: int) -> slice[int, int, None]:
        """Rows of a layer's live heads."""
        start = self._starts[layer]
        return slice(start, start + len(self.groups[layer]) * self._each)

    def mlp_row(self, layer: int) -> int:
        """Row of a layer's live MLP."""
        return self.head_rows(layer).stop

    def qkv_columns(self, layer: int) -> slice[int, int, None]:
        """Columns of a layer's live q readers, then k, then v."""
        start = self._columns[layer]
        return slice(start, start + len(self.groups[layer]) * (self._each + 2))

    def mlp_column(self, layer: int) -> int:
        """Column of a layer's live MLP."""
        return self.qkv_columns(layer).stop

    @property
    def logits_column(self) -> int:
        """Column of the final reader."""
        return self._columns[-1]

    # ------------------------------------------------------------ where they are in the graph
    def heads(self, layer: int) -> Tensor | None:
        """Numbers of a layer's live heads; None for all."""
        if len(self.groups[layer]) == self.graph.groups:
            return None
        first = _indices(self.groups[layer]) * self._each
        return (first[:, None] + torch.arange(self._each)).flatten()

    def readers(self, layer: int) -> Tensor | None:
        """Numbers of a layer's live q, k and v readers among all of the layer; None for all."""
        heads = self.heads(layer)
        if heads is None:
            return None
        groups = _indices(self.groups[layer]) + self.graph.n_heads
        return torch.cat([heads, groups, groups + self.graph.groups])

    @cached_property
    def _place(self) -> tuple[Tensor, Tensor]:
        """Rows [w, 1] and columns [r] of the graph."""
        graph = self.graph
        rows, columns = list(range(graph.n_inputs)), list[int]()
        for layer, mlp in enumerate(self.mlps):
            heads, readers = self.heads(layer), self.readers(layer)
            all_rows, all_columns = graph.head_rows(layer), graph.qkv_columns(layer)
            rows += _some(all_rows, heads)
            columns += _some(all_columns, readers)
            if mlp:
                rows.append(graph.mlp_row(layer))
                columns.append(graph.mlp_column(layer))
        return _indices(rows)[:, None], _indices([*columns, graph.logits_column])

    def of(self, masks: Tensor) -> Tensor:
        """The live part [..., w, r] of masks [..., W, R]."""
        return masks if self.is_all else masks[..., self._place[0], self._place[1]]

    def spread(self, part: Tensor) -> Tensor:
        """A matrix [..., W, R] that is `part` [..., w, r] where nodes live, and else zero."""
        if self.is_all:
            return part
        whole = part.new_zeros(*part.shape[:-2], self.graph.n_writers, self.graph.n_readers)
        whole[..., self._place[0], self._place[1]] = part
        return whole


def _indices(numbers: Sequence[int]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.long)


def _some(places: slice, numbers: Tensor | None) -> list[int]:
    every = range(places.start, places.stop)
    return list(every) if numbers is None else [every[i] for i in numbers.tolist()]


# ---------------------------------------------------------------- along the edges in use
def _heard(graph: Graph, used: Bools) -> tuple[Bools, Bools]:
    """Groups [L, G] and MLPs [L] of which the logits hear, from edges in use [W, R]."""
    groups, mlps = _nothing(graph)
    hearing = np.zeros(graph.n_readers, dtype=bool)
    hearing[graph.logits_column] = True
    for layer in reversed(range(graph.n_layers)):
        if graph.mlps:
            mlps[layer] = (used[graph.mlp_row(layer)] & hearing).any()
            hearing[graph.mlp_column(layer)] = mlps[layer]
        heads = (used[graph.head_rows(layer)] & hearing).any(1)
        groups[layer] = heads.reshape(graph.groups, -1).any(1)
        each = np.repeat(groups[layer], graph.n_heads // graph.groups)
        hearing[graph.qkv_columns(layer)] = np.concatenate([each, groups[layer], groups[layer]])
    return groups, mlps


def _reached(graph: Graph, used: Bools) -> tuple[Bools, Bools]:
    """Groups [L, G] and MLPs [L] that the input writers reach, from edges in use [W, R]."""
    groups, mlps = _nothing(graph)
    telling = np.zeros((graph.n_writers, 1), dtype=bool)
    telling[: graph.n_inputs] = True
    for layer in range(graph.n_layers):
        readers = (used[:, graph.qkv_columns(layer)] & telling).any(0)
        q, k, v = np.split(readers, [graph.n_heads, graph.n_heads + graph.groups])
        groups[layer] = q.reshape(graph.groups, -1).any(1) | k | v
        each = np.repeat(groups[layer], graph.n_heads // graph.groups)
        telling[graph.head_rows(layer), 0] = each
        if graph.mlps:
            mlps[layer] = (used[:, graph.mlp_column(layer)] & telling[:, 0]).any()
            telling[graph.mlp_row(layer)] = mlps[layer]
    return groups, mlps


def _nothing(graph: Graph) -> tuple[Bools, Bools]:
    layers = graph.n_layers
    return np.zeros((layers, graph.groups), dtype=bool), np.zeros(layers, dtype=bool)
