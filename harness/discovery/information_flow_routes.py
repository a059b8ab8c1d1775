"""Information flow routes (Ferrando & Voita 2024): how much of a reader's input a writer is.

With y the stream that a reader sees in the clean run, and x_w what writer w wrote into it (of a
head whose layer is normalised on its way: what y would lose without the head),
    proximity[w, r] = max(0, ‖y‖₁ - ‖y - x_w‖₁)
    score[w, r]     = mean over pairs and positions of proximity[w, r] / Σ_w proximity[w, r]
No gradient, no metric, no counterfactual: what the prompt is about does not enter. Readers of one
stream (q, k, v of a layer's heads) have equal scores. What belongs to no writer (positions, output
biases of heads) is in y and has no share. Zero where no writer is close to the stream.

As in MIB, circuits are grown backwards from the logits (`selection: {rule: greedy}`): shares at
different readers are not comparable, but the best into a node that is already in is a route.
Cost: a third of a plain forward+backward, and 2L+1 passes over the outputs of all writers before.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals, collect
from harness.circuits.edges.gradients import writer_differences
from harness.circuits.edges.patched.post_norms import lone_differences
from harness.datasets.batch import Batch
from harness.discovery.problem import Discovery, Problem
from harness.models.precision import single


@dataclass(frozen=True)
class InformationFlowRoutes:
    """Every writer's share of every reader's input, on the clean prompts alone."""

    def discover(self, problem: Problem) -> Discovery:
        """Score all edges from one clean run per batch."""
        graph = problem.edges.graph
        total = torch.zeros(graph.n_writers, graph.n_readers, dtype=torch.float64)
        for batch in problem.batches:
            total += _shares(problem, batch).double().cpu()
        return Discovery(problem.edges.space.flat(total / problem.n_pairs))


@torch.no_grad()
def _shares(problem: Problem, batch: Batch) -> Tensor:
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
    shares = single(written.new_zeros(graph.n_writers, graph.n_readers))
    for layer in range(graph.n_layers):
        rows = graph.before_attention(layer)
        found = _share_of_each(written[:rows], run.streams[2 * layer])
        shares[:rows, graph.qkv_columns(layer)] = found[:, None]
        rows = graph.before_mlp(layer)
        shares[:rows, graph.mlp_column(layer)] = _share_of_each(
            written[:rows], run.streams[2 * layer + 1]
        )
    shares[:, graph.logits_column] = _share_of_each(written, run.streams[-1])
    return shares


def _share_of_each(written: Tensor, stream: Tensor) -> Tensor:
    """Shares of writers [w, B, T, D] in the stream [B, T, D]: [w], summed over pairs."""
    stream = single(stream)  # what a writer takes away is a small share of the whole
    left = [(stream - x).abs().sum(-1) for x in written]  # one writer's difference at a time
    if not left:
        return stream.new_zeros(0)
    proximity = (stream.abs().sum(-1) - torch.stack(left)).clamp(min=0)
    whole = proximity.sum(0)
    return (proximity / whole.where(whole > 0, 1)).mean(-1).sum(-1)
