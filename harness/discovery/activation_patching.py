"""Exact activation patching of every edge: replace one edge, run the rest, see what changes.

score[w, r] = mean over pairs of loss(model with edge w→r carrying x̃_w) - loss(model).

All other edges are kept, so nothing before reader r changes and everything after it is the plain
model: per edge only r itself and the layers above are run, many edges in one batch. Where each
position has its own edges, score[t, w, r] is that of the edge at position t alone; these need not
add up to score[w, r].
Cost: per edge one forward from the reader's layer on (0.36 of the model on average for GPT-2
small's edges). The reference that gradient methods approximate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from harness.circuits.gradients import writer_differences
from harness.circuits.post_norms import attention_outputs, lone_differences
from harness.circuits.readers import centred
from harness.circuits.reference import collect
from harness.discovery.problem import Discovery, Loss, Problem
from harness.models.batch import Batch
from harness.spec.types import Objective

_CHUNK = 2**21
"""Numbers in the residual streams of one chunk of edges: 8 MiB, which stays near the caches."""

_Index = tuple[slice | Tensor, ...]


@dataclass(frozen=True)
class ActivationPatching:
    """Every edge, one at a time, exactly. `objective`: the loss whose change is the score."""

    objective: Objective = "metric"

    def discover(self, problem: Problem) -> Discovery:
        """Score all edges by running the model with each of them replaced."""
        model, graph = problem.model, problem.graph
        total = torch.zeros(graph.allowed.shape, dtype=torch.float64)
        with tqdm(
            total=graph.n_edges * len(problem.batches),
            unit="edge",
            desc="activation patching",
            disable=None,
            leave=False,
        ) as bar:
            for batch in problem.batches:
                patcher = _Patcher(problem, batch, problem.loss(self.objective, batch))
                for layer in range(model.config.n_layers):
                    patcher.attention(layer, total)
                    patcher.mlp(layer, total)
                    rows = graph.before_attention(layer), graph.before_mlp(layer)
                    at_one = model.config.n_read_maps * rows[0] + rows[1]
                    bar.update(graph.n_places * at_one)
                patcher.logits(total)
                bar.update(graph.n_places * graph.n_writers)
        return Discovery(total / problem.n_pairs, additive=True)


class _Patcher:
    """The clean run of one batch, and the loss after replacing single edges."""

    @torch.no_grad()
    def __init__(self, problem: Problem, batch: Batch, loss: Loss) -> None:
        self.patched, self.batch, self.loss = problem.patched, batch, loss
        self.model, self.graph = problem.model, problem.graph
        self.run = collect(self.model, batch.clean, self.graph.inputs)
        reference = problem.references.of(batch)
        written = writer_differences(self.model, self.graph, self.run, reference)
        self.differences = lone_differences(self.model, self.graph, self.run, written)
        if self.model.config.post_norms:
            self.outputs = attention_outputs(self.model, self.run)
        self.whole = self._loss(self.run.streams[-1])
        self.blocks = list(self.model.layers())
        self.chunk = max(1, _CHUNK // batch.clean.numel() // self.model.config.d_model)

    def _edges(self, rows: int) -> Iterator[tuple[_Index, Tensor]]:
        """All edges of the first writers into a reader, in chunks of w.

        Where their scores stand in [W] or [T, W], and what each takes out of a stream [w, B, T, D].
        """
        count = rows * self.graph.n_places
        for at in range(0, count, self.chunk):
            end = min(at + self.chunk, count)
            if self.graph.positions is None:
                yield (slice(at, end),), self.differences[at:end]
            else:
                edges = torch.arange(at, end)
                place, row = edges // rows, edges % rows
                here = torch.arange(self.graph.n_places) == place[:, None]
                removed = self.differences[row.to(self.differences.device)]
                yield (place, row), removed * here[:, None, :, None].to(removed)

    @torch.no_grad()
    def attention(self, layer: int, total: Tensor) -> None:
        """All edges into the q, k, v of a layer's heads."""
        block, stream = self.blocks[layer], self.run.streams[2 * layer]
        clean = block.split(block.read(stream).permute(2, 0, 1, 3), axis=0)  # [H, B, T, K] each
        first = self.graph.qkv_columns(layer).start
        part_of = [0] * self.graph.n_heads + [1] * self.graph.groups + [2] * self.graph.groups
        for scores, removed in self._edges(self.graph.before_attention(layer)):
            patched = centred(stream - removed, block.attention_norm)
            # What each reader gives without an edge: [H, w, B, T, K] each.
            new = block.split(self.patched.attention[layer].read_shared(patched), axis=0)
            for reader, part in enumerate(part_of):
                fed = self.graph.owners[first + reader, self.graph.head_rows(layer)]
                q, k, v = (
                    new[other][fed] if other == part else clean[other][fed][:, None]
                    for other in range(3)
                )
                change = self._heads_change(layer, fed, q, k, v)
                total[*scores, first + reader] += self._after_attention(layer, change)

    def _heads_change(self, layer: int, fed: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Change [w, B, T, D] of what attention adds when the heads `fed` of a layer run anew."""
        block = self.blocks[layer]
        shape = torch.broadcast_shapes(q.shape, k.shape, v.shape)
        q, k, v = (x.expand(shape).flatten(0, 1) for x in (q, k, v))
        before = self.run.heads[layer].permute(2, 0, 1, 3)[fed]
        change = block.attend(q, k, v).view(shape) - before[:, None]
        out = torch.einsum("hwbtk,hkd->wbtd", change, block.out_weights()[fed])
        if not self.model.config.post_norms:
            return out
        a = self.outputs[layer]
        return block.add_attention(a + out) - block.add_attention(a)

    @torch.no_grad()
    def mlp(self, layer: int, total: Tensor) -> None:
        """All edges into a layer's MLP."""
        block, stream = self.blocks[layer], self.run.streams[2 * layer + 1]
        for scores, removed in self._edges(self.graph.before_mlp(layer)):
            out = block.mlp(stream - removed)
            after = self.run.streams[2 * layer + 2] + (out - self.run.mlps[layer])
            total[*scores, self.graph.mlp_column(layer)] += self._above(layer, after)

    @torch.no_grad()
    def logits(self, total: Tensor) -> None:
        """All edges into the logits."""
        for scores, removed in self._edges(self.graph.n_writers):
            gained = self._gained(self.run.streams[-1] - removed)
            total[*scores, self.graph.logits_column] += gained

    def _after_attention(self, layer: int, change: Tensor) -> Tensor:
        """Loss gained when a layer's attention output changes by [w, B, T, D]."""
        if self.model.config.parallel:  # the layer's MLP does not see it
            return self._above(layer, self.run.streams[2 * layer + 2] + change)
        x = self.run.streams[2 * layer + 1] + change
        return self._above(layer, x + self.blocks[layer].mlp(x))

    def _above(self, layer: int, x: Tensor) -> Tensor:
        """Loss gained when the stream after a layer is x [w, B, T, D]: the plain layers above."""
        edges = len(x)
        x = x.flatten(0, 1)
        for block in self.blocks[layer + 1 :]:
            x = block(x)
        return self._gained(x.view(edges, -1, *x.shape[1:]))

    def _gained(self, x: Tensor) -> Tensor:
        """Σ over the batch of loss(final stream x [w, B, T, D]) - loss(model): [w]."""
        return (self._loss(x) - self.whole).double().sum(-1).cpu()

    def _loss(self, stream: Tensor) -> Tensor:
        return self.loss(self.model.unembed(self.batch.at_positions(stream)))
