"""Exact activation patching of nodes: replace one writer for all its readers, run the rest.

score[w] = mean over pairs of loss(model in which w writes x̃_w) - loss(model)

Everything before the writer is the clean run and everything after it the plain model, so only the
layers above are run, many writers in one batch. This is what `node_attribution` approximates.
Every edge out of a node gets the node's score; `node_attribution` says what that does to ties and
to circuits of a given size.
Cost: per writer half a forward on average, (e + L(H+1))/6 plain forward+backwards in all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.circuits.edges.counterfactuals import collect
from harness.circuits.edges.gradients import writer_differences
from harness.circuits.edges.patched.post_norms import lone_differences
from harness.datasets.batch import Batch
from harness.discovery.node_attribution import on_edges
from harness.discovery.problem import Discovery, Loss, Problem
from harness.spec.types import Objective

_CHUNK = 2**21
"""Numbers in the residual streams of one chunk of writers: 8 MiB, which stays near the caches."""


@dataclass(frozen=True)
class NodePatching:
    """Every writer, one at a time, exactly. `objective`: the loss whose change is the score."""

    objective: Objective = "metric"

    def discover(self, problem: Problem) -> Discovery:
        """Score all writers by running the model with each of them replaced."""
        total = torch.zeros(problem.edges.graph.n_writers, dtype=torch.float64)
        for batch in problem.batches:
            total += _Replacing(problem, batch, problem.loss(self.objective, batch)).all()
        return Discovery(on_edges(total / problem.n_pairs, problem.edges.space))


class _Replacing:
    """The clean run of one batch, and the loss gained when writers are replaced in it."""

    @torch.no_grad()
    def __init__(self, problem: Problem, batch: Batch, loss: Loss) -> None:
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
        return torch.cat(gained)

    def _losses(self, streams: Tensor) -> Tensor:
        """Loss of every pair [w, B] for final streams [w, B, T, D]."""
        final = self.batch.at_positions(streams)
        return self.loss(self.model.unembed(final)).double().cpu()
