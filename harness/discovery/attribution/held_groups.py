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
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from harness.circuits.edges.counterfactuals import Activations, collect
from harness.circuits.edges.gradients import (
    GradientRun,
    edge_scores,
    stream_points,
    writer_differences,
)
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.trace import Trace, TraceGradients
from harness.datasets.batch import Batch
from harness.discovery.problem import Problem
from harness.models.precision import single
from harness.models.transformer import Transformer
from harness.spec.types import Objective

_AT_ONCE = 8
"""Runs whose readers' outputs and gradients are held before they are mixed."""


class _Group(NamedTuple):
    """Writers `rows` whose sum reaches the stream at `point` (see `Trace`).

    `layer`: of heads, None for others.
    """

    rows: slice
    point: int
    layer: int | None = None


def _groups(graph: Graph) -> Iterator[_Group]:
    """The groups in order of computation."""
    if graph.n_inputs:
        yield _Group(slice(0, graph.n_inputs), 0)
    for layer in range(graph.n_layers):
        after = 2 * layer + 2
        yield _Group(graph.head_rows(layer), after if graph.parallel else after - 1, layer)
        if graph.mlps:
            yield _Group(slice(graph.mlp_row(layer), graph.mlp_row(layer) + 1), after)


def n_groups(graph: Graph) -> int:
    """2L (L without MLPs), and one more where the embeddings are writers."""
    return len(list(_groups(graph)))


@torch.enable_grad()
def held_scores(problem: Problem, batch: Batch, objective: Objective, steps: int) -> Tensor:
    """The module's sum over groups and k = 1 … `steps`, over the pairs of a batch, by edge."""
    model, graph = problem.model, problem.edges.graph
    loss = problem.loss(objective, batch)
    clean = collect(model, batch.clean, graph.inputs)
    differences = writer_differences(model, graph, clean, problem.counterfactuals.of(batch))
    below = Trace.of(model, clean.streams[0])
    beside = tuple(_beside(below, graph.parallel, graph.mlps))
    total = single(differences.new_zeros(graph.allowed.shape))
    passed_down: list[Tensor] = []
    for group in _groups(graph):
        change, point = differences[group.rows].sum(0), group.point
        at_group = torch.zeros_like(change)
        for first in range(0, steps, _AT_ONCE):
            runs = []
            for k in range(first + 1, min(first + _AT_ONCE, steps) + 1):
                start, under = _held(model, group, below, clean.streams[point], change, k / steps)
                held = Trace.of(model, start, point)
                final = batch.at_positions(held.end)
                gradients = held.gradients(
                    loss(model.unembed(final, batch.read_tokens())).sum(), final
                )
                at_group += gradients.start
                runs.append(_whole_run(held, gradients, under))
            total += edge_scores(model, graph, batch, runs, differences)
        if point:
            passed_down.append((beside[len(passed_down)] * at_group).sum())
    gradients = below.gradients(torch.stack(passed_down).sum(), batch.at_positions(below.end))
    return total + edge_scores(
        model, graph, batch, [_whole_run(below, gradients, below)], differences
    )


@torch.no_grad()
def _held(
    model: Transformer,
    group: _Group,
    below: Trace,
    stream: Tensor,
    change: Tensor,
    share: float,
) -> tuple[Tensor, Trace]:
    """The clean stream above a group that is held at a share of its change; the run below."""
    missing = (1 - share) * change
    if group.layer is None or not model.config.post_norms:
        return stream - missing, below
    clean = below.attention[group.layer]
    attention = list(below.attention)
    attention[group.layer] = clean - missing
    with model.block(group.layer).whole() as block:
        moved = block.add_attention(attention[group.layer]) - block.add_attention(clean)
    return stream + moved, replace(below, attention=tuple(attention))


def _beside(trace: Trace, parallel: bool, mlps: bool) -> Iterator[Tensor]:
    """For heads, MLP, heads … what else than the group makes the stream above it [B, T, D]."""
    for x, after, written in zip(trace.streams, trace.after, trace.written, strict=True):
        yield x + written if parallel else x
        if mlps:
            yield after


def _whole_run(trace: Trace, gradients: TraceGradients, below: Trace) -> GradientRun:
    """As a run of the whole model, with the layers below from another, gradients there zero."""
    lacking = slice(len(below.reads) - len(trace.reads))
    lacking_mlps = slice(len(below.mlps) - len(trace.mlps))
    points = stream_points(
        below.streams[lacking] + trace.streams, below.mlps[lacking_mlps] + trace.mlps, trace.end
    )
    return GradientRun.of(
        Activations(trace.end.detach()[:0], (), (), points),
        below.reads[lacking] + trace.reads,
        (*map(torch.zeros_like, below.reads[lacking]), *gradients.reads),
        (*map(torch.zeros_like, below.mlps[lacking_mlps]), *gradients.mlps),
        gradients.final,
        below.attention[lacking] + trace.attention,
    )
