"""The share of every writer in every reader's input, by `information_flow_routes`' formula."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals, collect
from harness.circuits.edges.gradients import writer_differences
from harness.circuits.edges.patched.post_norms import lone_differences
from harness.datasets.batch import Batch
from harness.discovery.problem import Problem
from harness.models.precision import single


@torch.no_grad()
def shares(problem: Problem, batch: Batch) -> Tensor:
    """Σ over the pairs of a batch of the mean share over positions [W, R]."""
    model, graph = problem.model, problem.edges.graph
    run = collect(model, batch.clean, graph.inputs)
    nothing = EdgeCounterfactuals(model, graph, "zero").of(batch)
    written = lone_differences(
        model,
        graph,
        run,
        writer_differences(model, graph, run, nothing),  # x_w - 0
    )
    total = single(written.new_zeros(graph.n_writers, graph.n_readers))
    for layer in range(graph.n_layers):
        rows = graph.before_attention(layer)
        share = _share_of_each(written[:rows], run.streams[2 * layer])
        total[:rows, graph.qkv_columns(layer)] = share[:, None]
        if graph.mlps:
            rows = graph.before_mlp(layer)
            total[:rows, graph.mlp_column(layer)] = _share_of_each(
                written[:rows], run.streams[2 * layer + 1]
            )
    total[:, graph.logits_column] = _share_of_each(written, run.streams[-1])
    return total


def _share_of_each(written: Tensor, stream: Tensor) -> Tensor:
    """Shares of writers [w, B, T, D] in the stream [B, T, D]: [w], summed over pairs."""
    stream = single(stream)  # what a writer takes away is a small share of the whole
    left = [(stream - x).abs().sum(-1) for x in written]  # one writer's difference at a time
    if not left:
        return stream.new_zeros(0)
    proximity = (stream.abs().sum(-1) - torch.stack(left)).clamp(min=0)
    whole = proximity.sum(0)
    return (proximity / whole.where(whole > 0, 1)).mean(-1).sum(-1)
