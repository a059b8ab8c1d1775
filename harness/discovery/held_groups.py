"""Gradients of clean runs in which one group of writers is held between its two outputs.

Groups are the input writers, all heads of a layer, and each MLP: 2L+1 (2L without input writers).
For each group g and k = 1 … m the group writes (k/m)·x + (1 - k/m)·x̃ whatever it reads, and all
other writers run. Summed over groups and k, with the differences of the clean run:
    Σ_g,k Σ_pairs,positions (x_w - x̃_w) · ∂loss/∂(input of r)
(EAP-IG-activations of Hanna et al.'s library.)

Below a held group its run is the clean run, so only the layers above are run again, and what all
runs of all groups pass down goes through one backward of the clean run together.
Cost: m·(2L+1)/2 forwards and activation backwards (half of the model on average), that is
m·(2L+1)/3 plain forward+backwards; one more of each for the clean run, and one mixing product per
eight runs of a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from harness.circuits.gradients import GradientRun, by_reader, edge_scores, writer_differences
from harness.circuits.graph import Graph
from harness.circuits.reference import Activations, collect
from harness.discovery.problem import Problem
from harness.models.batch import Batch
from harness.models.transformer import Transformer
from harness.spec.types import Objective

_AT_ONCE = 8
"""Runs whose readers' outputs and gradients are held before they are mixed."""


class _Group(NamedTuple):
    """Writers `rows` whose sum reaches the stream at `point`.

    Points: 2l before the attention of layer l, 2l+1 before its MLP, 2L at the end.
    """

    rows: slice
    point: int


def _groups(graph: Graph) -> Iterator[_Group]:
    """The groups in order of computation."""
    if graph.n_inputs:
        yield _Group(slice(0, graph.n_inputs), 0)
    for layer in range(graph.n_layers):
        after = 2 * layer + 2
        yield _Group(graph.head_rows(layer), after if graph.parallel else after - 1)
        yield _Group(slice(graph.mlp_row(layer), graph.mlp_row(layer) + 1), after)


def n_groups(graph: Graph) -> int:
    """2L, and one more where the embeddings are writers."""
    return len(list(_groups(graph)))


@torch.enable_grad()
def held_scores(problem: Problem, batch: Batch, objective: Objective, steps: int) -> Tensor:
    """The module's sum over groups and k = 1 … `steps`, over the pairs of a batch, by edge."""
    model, graph = problem.model, problem.graph
    loss = problem.loss(objective, batch)
    clean = collect(model, batch.clean, graph.inputs)
    differences = writer_differences(model, graph, clean, problem.references.of(batch))
    below = _Trace.of(model, clean.streams[0], 0)
    total = differences.new_zeros(graph.allowed.shape)
    passed_down: list[Tensor] = []
    for rows, point in _groups(graph):
        change = differences[rows].sum(0)
        at_group = torch.zeros_like(change)
        for first in range(0, steps, _AT_ONCE):
            runs = []
            for k in range(first + 1, min(first + _AT_ONCE, steps) + 1):
                held = _Trace.of(model, clean.streams[point] - (1 - k / steps) * change, point)
                final = batch.at_positions(held.end)
                slopes = held.slopes(loss(model.unembed(final)).sum(), final)
                at_group += slopes.start
                runs.append(held.whole_run(slopes, below))
            total += edge_scores(model, graph, batch, runs, differences)
        if point:
            passed_down.append((below.beside[len(passed_down)] * at_group).sum())
    slopes = below.slopes(torch.stack(passed_down).sum(), batch.at_positions(below.end))
    return total + edge_scores(model, graph, batch, [below.whole_run(slopes, below)], differences)


class _Slopes(NamedTuple):
    """Gradients at a trace's start, at the readers of its layers, and at the final reader."""

    start: Tensor
    reads: tuple[Tensor, ...]
    mlps: tuple[Tensor, ...]
    final: Tensor


@dataclass(frozen=True)
class _Trace:
    """The blocks run from a point on, with autograd's tape.

    `start`, `end`: streams [B, T, D]. By layer, for those that have one: `streams` before the
    attention, what its readers gave, `reads` [B, T, R, K], and the MLP's branch `mlps` [B, T, D].
    `beside`: for heads, MLP, heads … what else than the group makes the stream above it [B, T, D].
    """

    start: Tensor
    end: Tensor
    streams: tuple[Tensor, ...]
    reads: tuple[Tensor, ...]
    mlps: tuple[Tensor, ...]
    beside: tuple[Tensor, ...]

    @classmethod
    @torch.enable_grad()
    def of(cls, model: Transformer, start: Tensor, point: int) -> _Trace:
        """Run on from the stream at a point (see `_Group`)."""
        x = start = start.detach().requires_grad_()
        streams, outputs, mlps, beside = [], [], [], []
        for layer, block in enumerate(model.layers()):
            if point >= 2 * layer + 2:
                continue
            after = x
            if point <= 2 * layer:
                streams.append(x)
                outputs.append(block.read(x))
                q, k, v = block.split(outputs[-1].transpose(1, 2), axis=1)
                after = x + block.project(block.attend(q, k, v).transpose(1, 2))
            seen = x if model.config.parallel else after
            mlps.append(seen.view_as(seen))  # a branch: its gradient is the reader's alone
            written = block.mlp(mlps[-1])
            beside += [x + written if model.config.parallel else x, after]
            x = after + written
        return cls(start, x, *map(tuple, (streams, outputs, mlps, beside)))

    def slopes(self, total: Tensor, final: Tensor) -> _Slopes:
        """Gradients of a number; `final` are the read positions of the end [B, P, D]."""
        at = [self.start, *self.reads, *self.mlps, final]
        found = torch.autograd.grad(total, at, materialize_grads=True)
        mlps = 1 + len(self.reads)
        return _Slopes(found[0], found[1:mlps], found[mlps:-1], found[-1])

    def whole_run(self, slopes: _Slopes, below: _Trace) -> GradientRun:
        """As a run of the whole model, with the layers below from another, slopes there zero."""
        lacking = slice(len(below.reads) - len(self.reads))
        lacking_mlps = slice(len(below.mlps) - len(self.mlps))
        streams = below.streams[lacking] + self.streams
        mlps = below.mlps[lacking_mlps] + self.mlps
        at_mlps = (*map(torch.zeros_like, below.mlps[lacking_mlps]), *slopes.mlps)
        at_reads = (*map(torch.zeros_like, below.reads[lacking]), *slopes.reads)
        points = [x.detach() for pair in zip(streams, mlps, strict=True) for x in pair]
        gradients = {f"reads{layer}": by_reader(at) for layer, at in enumerate(at_reads)}
        gradients |= {f"mlp{layer}": at for layer, at in enumerate(at_mlps)}
        return GradientRun(
            Activations(self.end.detach()[:0], (), (), (*points, self.end.detach())),
            tuple(by_reader(x.detach()) for x in below.reads[lacking] + self.reads),
            {**gradients, "final": slopes.final},
        )
