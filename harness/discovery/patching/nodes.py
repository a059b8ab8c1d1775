"""What replacing single writers for all their readers costs the model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.circuits.edges.counterfactuals import collect
from harness.circuits.edges.gradients import writer_differences
from harness.circuits.edges.patched.post_norms import lone_differences
from harness.datasets.batch import Batch
from harness.discovery.problem import Loss, Problem

_CHUNK = 2**21
"""Numbers in the residual streams of one chunk of writers: 8 MiB, which stays near the caches."""


class NodePatcher:
    """The clean run of one batch, and the loss gained when writers are replaced in it.

    `done` is told how many more writers have been replaced.
    """

    @torch.no_grad()
    def __init__(
        self, problem: Problem, batch: Batch, loss: Loss, done: Callable[[int], object]
    ) -> None:
        self.done = done
        self.model, self.graph = problem.model, problem.edges.graph
        self.batch, self.loss = batch, loss
        self.blocks = list(self.model.layers())
        clean = collect(self.model, batch.clean, self.graph.inputs)
        counterfactual = problem.counterfactuals.of(batch)
        written = writer_differences(self.model, self.graph, clean, counterfactual)
        self.differences = lone_differences(self.model, self.graph, clean, written)
        self.streams = clean.streams
        self.whole = self._losses(clean.streams[-1][None])

    @torch.no_grad()
    def all(self) -> Tensor:
        """Loss gained by each writer's replacement, summed over the batch: [W]."""
        graph = self.graph
        gained = [self._from(0, slice(0, graph.n_inputs), 0)]
        for layer in range(graph.n_layers):
            # A parallel layer's MLP does not see the heads: both reach the stream together.
            heads_at = 2 * layer + (2 if graph.parallel else 1)
            gained.append(self._from(heads_at, graph.head_rows(layer), layer + 1))
            if not graph.mlps:
                continue
            mlp = slice(graph.mlp_row(layer), graph.mlp_row(layer) + 1)
            gained.append(self._from(2 * layer + 2, mlp, layer + 1))
        return torch.cat(gained)

    def _from(self, point: int, rows: slice, layer: int) -> Tensor:
        """For writers that have just reached the stream at a point (2l+1: before MLP l): [w].

        `layer`: the first whole layer that is still to be run.
        """
        stream = self.streams[point]
        size = max(1, _CHUNK // stream.numel())
        gained = [torch.zeros(0, dtype=torch.float64)]
        for start in range(rows.start, rows.stop, size):
            x = stream - self.differences[start : min(start + size, rows.stop)]
            if point % 2:
                x = x + self.blocks[point // 2].mlp(x)
            flat = x.flatten(0, 1)
            for block in self.blocks[layer:]:
                flat = block(flat)
            gained.append((self._losses(flat.view(x.shape)) - self.whole).sum(-1))
            self.done(len(x))
        return torch.cat(gained)

    def _losses(self, streams: Tensor) -> Tensor:
        """Loss of every pair [w, B] for final streams [w, B, T, D]."""
        final = self.batch.at_positions(streams)
        return self.loss(self.model.unembed(final, self.batch.read_tokens())).double().cpu()
