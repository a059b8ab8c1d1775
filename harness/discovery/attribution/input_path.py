"""Gradients on the straight line between two inputs: what EAP-IG and node attribution share.

The run at point a ∈ [0, 1] starts from the embeddings e(a) = ẽ + a·(e - ẽ), clean at 1. ẽ are the
embeddings of the run that the counterfactual is (interchange, resample), or what the input
writers carry instead (means, zero).

Zero ablation needs care. Where ẽ is the zero vector a norm's gradient is 1/√ε (316 times too large
at ε = 1e-5): norms ignore an input's length, so the whole change from "nothing" to "something"
happens within √ε of that point, and a sum over a few points that has it among them would be that
point alone. So under zero ablation the points are 1/k … 1 (the sum of Hanna et al. and of
Sundararajan et al. 2017) instead of 0 … 1 - 1/k (the EAP-IG library, which has interchange alone).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from harness.circuits.edges.counterfactuals import Activations, collect, input_writers
from harness.circuits.edges.gradients import (
    GradientRun,
    edge_scores,
    gradient_run,
    writer_differences,
)
from harness.datasets.batch import Batch
from harness.discovery.problem import Problem
from harness.errors import HarnessError
from harness.models.precision import single
from harness.spec.types import Objective

_AT_ONCE = 8
"""Runs whose readers' outputs and gradients are held before they are mixed."""


def riemann_points(problem: Problem, steps: int) -> tuple[float, ...]:
    """Where `steps` gradients are taken: without the clean end, or under `zero` without the other.

    0, 1/k … 1 - 1/k, or 1/k … 1.
    """
    first = 1 if problem.counterfactuals.ablation == "zero" else 0
    return tuple((first + step) / steps for step in range(steps))


def path_scores(
    problem: Problem, batch: Batch, objective: Objective, points: tuple[float, ...]
) -> Tensor:
    """Σ_points Σ_pairs,positions (x_w - x̃_w)·∂loss/∂(input of r) at the point, for each edge.

    The differences are those of the two ends. Cost: one forward for each end that is not among
    the points, one forward and one backward of activations per point, one mixing product per
    eight points.

    Raises `HarnessError` if there is no line, or no gradient at its counterfactual end.
    """
    model, graph = problem.model, problem.edges.graph
    loss = problem.loss(objective, batch)
    clean = model.start(batch.clean)
    other, counterfactual = _other_end(problem, batch, from_run=0.0 in points)
    if 0.0 in points:
        _check_gradient(problem, other)

    def run(point: float) -> GradientRun:
        return gradient_run(model, graph, batch, loss, torch.lerp(other, clean, point))

    ends = {point: run(point) for point in (0.0, 1.0) if point in points}
    if counterfactual is None:
        written = input_writers(model, batch.corrupted, graph.inputs)
        counterfactual = replace(ends[0.0].activations, inputs=written)
    whole = ends[1.0].activations if 1.0 in ends else collect(model, batch.clean, graph.inputs)
    differences = writer_differences(model, graph, whole, counterfactual)

    inner = [point for point in points if point not in ends]
    total = single(differences.new_zeros(graph.allowed.shape))
    held = list(ends.values())
    ends.clear()
    for point in inner:
        if len(held) >= _AT_ONCE:
            total += edge_scores(model, graph, batch, held, differences)
            held.clear()
        held.append(run(point))
    return total + edge_scores(model, graph, batch, held, differences)


def _other_end(problem: Problem, batch: Batch, from_run: bool) -> tuple[Tensor, Activations | None]:
    """Embeddings ẽ [B, T, D], and the counterfactual unless the run that starts there gives it."""
    model, ablation = problem.model, problem.counterfactuals.ablation
    if ablation == "interchange":
        counterfactual = None if from_run else problem.counterfactuals.of(batch)
        return model.start(batch.corrupted), counterfactual
    counterfactual = problem.counterfactuals.of(batch)
    if problem.edges.graph.inputs != "none":
        return counterfactual.streams[0], counterfactual
    if ablation == "resample" and batch.other is not None:
        return model.start(batch.other), counterfactual
    raise HarnessError(
        f"no line to integrate over: under ablation {ablation!r} with inputs 'none' both ends have "
        "the clean embeddings. Choose other inputs, ablation interchange or resample, or a "
        "method that does not change the inputs (eap, eap_ig with variant activations)"
    )


def _check_gradient(problem: Problem, start: Tensor) -> None:
    if problem.model.config.norm != "none" and not start.any(-1).all():
        raise HarnessError(
            f"under ablation {problem.counterfactuals.ablation!r} the counterfactual stream starts "
            "as the zero vector, where a norm's gradient has no meaning (1/√ε). Choose a method "
            "that takes no gradient there: eap, or eap_ig with variant inputs or activations"
        )
