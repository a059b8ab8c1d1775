"""What replacing single edges costs the model: the runs of exact activation patching."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from harness.circuits.edges.counterfactuals import collect
from harness.circuits.edges.gradients import writer_differences
from harness.circuits.edges.patched.post_norms import attention_outputs, lone_differences
from harness.circuits.edges.patched.readers import centred
from harness.datasets.batch import Batch
from harness.discovery.problem import Loss, Problem

_CHUNK = 2**21
"""Numbers in the residual streams of one chunk of edges: 8 MiB, which stays near the caches."""

_Index = tuple[slice | Tensor, ...]
Reads = tuple[Tensor, Tensor, Tensor]


def _ignore(_edges: int) -> None:
    """Nobody wants to know."""


class Patcher:
    """The clean run of one batch, and the loss after replacing single edges.

    `done` is told how many more edges have been replaced.
    """

    @torch.no_grad()
    def __init__(
        self,
        problem: Problem,
        batch: Batch,
        loss: Loss,
        done: Callable[[int], object] = _ignore,
    ) -> None:
        self.done = done
        self.patched, self.batch, self.loss = problem.edges.patched, batch, loss
        self.model, self.graph = problem.model, problem.edges.graph
        self.run = collect(self.model, batch.clean, self.graph.inputs)
        counterfactual = problem.counterfactuals.of(batch)
        written = writer_differences(self.model, self.graph, self.run, counterfactual)
        self.differences = lone_differences(self.model, self.graph, self.run, written)
        if self.model.config.post_norms:
            self.outputs = attention_outputs(self.model, self.run)
        self.whole = self._loss(self.run.streams[-1])
        self.blocks = list(self.model.layers())
        self.chunk = max(1, _CHUNK // batch.clean.numel() // self.model.config.d_model)

    def edges(self, rows: int) -> Iterator[tuple[_Index, Tensor]]:
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
        first, clean = self.graph.qkv_columns(layer).start, self.clean_reads(layer)
        for scores, removed in self.edges(self.graph.before_attention(layer)):
            new = self.new_reads(layer, removed)
            for reader in range(self.model.config.n_read_maps):
                total[*scores, first + reader] += self.at_reader(layer, reader, clean, new)
                self.done(len(removed))

    @torch.no_grad()
    def clean_reads(self, layer: int) -> Reads:
        """What each head's q, k, v give in the clean run: [H, B, T, K] each."""
        block = self.blocks[layer]
        return block.split(block.read(self.run.streams[2 * layer]).permute(2, 0, 1, 3), axis=0)

    @torch.no_grad()
    def new_reads(self, layer: int, removed: Tensor) -> Reads:
        """What they give of streams that lack an edge [w, B, T, D]: [H, w, B, T, K] each."""
        block = self.blocks[layer]
        patched = centred(self.run.streams[2 * layer] - removed, block.attention_norm)
        return block.split(self.patched.attention[layer].read_shared(patched), axis=0)

    @torch.no_grad()
    def at_reader(self, layer: int, reader: int, clean: Reads, new: Reads) -> Tensor:
        """Loss gained [w] where one reader of a layer (q of all heads, then k, v) lacks edges."""
        graph = self.graph
        column = graph.qkv_columns(layer).start + reader
        fed = graph.owners[column, graph.head_rows(layer)]
        part = 0 if reader < graph.n_heads else 1 + (reader - graph.n_heads) // graph.groups
        q, k, v = (
            new[other][fed] if other == part else clean[other][fed][:, None] for other in range(3)
        )
        return self._after_attention(layer, self._heads_change(layer, fed, q, k, v))

    def _heads_change(self, layer: int, fed: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Change [w, B, T, D] of what attention adds when the heads `fed` of a layer run anew."""
        block = self.blocks[layer]
        shape = torch.broadcast_shapes(q.shape, k.shape, v.shape)
        q, k, v = (x.expand(shape).flatten(0, 1) for x in (q, k, v))
        before = self.run.heads[layer].permute(2, 0, 1, 3)[fed]
        change = block.attend(q, k, v, axis=0, heads=fed).view(shape) - before[:, None]
        out = torch.einsum("hwbtk,hkd->wbtd", change, block.out_weights()[fed])
        if not self.model.config.post_norms:
            return out
        a = self.outputs[layer]
        return block.add_attention(a + out) - block.add_attention(a)

    @torch.no_grad()
    def mlp(self, layer: int, total: Tensor) -> None:
        """All edges into a layer's MLP; nothing to do without MLPs."""
        if not self.graph.mlps:
            return
        for scores, removed in self.edges(self.graph.before_mlp(layer)):
            total[*scores, self.graph.mlp_column(layer)] += self.at_mlp(layer, removed)
            self.done(len(removed))

    @torch.no_grad()
    def at_mlp(self, layer: int, removed: Tensor) -> Tensor:
        """Loss gained [w] where a layer's MLP lacks edges."""
        out = self.blocks[layer].mlp(self.run.streams[2 * layer + 1] - removed)
        after = self.run.streams[2 * layer + 2] + (out - self.run.mlps[layer])
        return self._above(layer, after)

    @torch.no_grad()
    def logits(self, total: Tensor) -> None:
        """All edges into the logits."""
        for scores, removed in self.edges(self.graph.n_writers):
            total[*scores, self.graph.logits_column] += self.at_logits(removed)
            self.done(len(removed))

    @torch.no_grad()
    def at_logits(self, removed: Tensor) -> Tensor:
        """Loss gained [w] where the logits lack edges."""
        return self._gained(self.run.streams[-1] - removed)

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
        return self.loss(
            self.model.unembed(self.batch.at_positions(stream), self.batch.read_tokens())
        )
