"""EAP with integrated gradients (Hanna et al. 2024): the gradient averaged over several runs.

score[w, r] = - mean over pairs and runs of Σ_positions (x_w - x̃_w) · ∂loss/∂(input of r)

`inputs` ("EAP-IG-inputs"): k runs whose embeddings go from the counterfactual's towards the clean
    ones, e_j = ẽ + (j/k)·(e - ẽ), j = 0 … k-1 (the library's convention: it starts at the corrupted
    input and never reaches the clean one), or j = 1 … k under zero ablation; `input_path` says why.
    Σ over readers of an input's scores tends to loss(ẽ) - loss(e) as 1/k.
    Cost: one forward for the clean run, k forwards and activation backwards, a mixing product per
    eight runs: 0.4 + 0.53·k plain forward+backwards for GPT-2 small. Under interchange ablation
    the run at j = 0 is the counterfactual itself.
`activations` ("EAP-IG-activations"): k runs for each of the 2L+1 groups (the inputs, the heads of a
    layer, an MLP) whose outputs go from the counterfactual's to the clean ones; `held_groups` has
    the formula.
    Cost: about 0.7 + k·(2L+1)/3 plain forward+backwards, and a mixing product per eight runs of a
    group.
`clean_corrupted`: the two ends alone, each once, whatever `steps` is.
    Cost: two forwards and activation backwards, one mixing product: 1.0 plain forward+backwards
    for GPT-2 small.

Where each position has its own edges, the sums are over pairs and runs alone.
The differences are always those of the two end runs. All three take distances to the whole model
(kl, squared_error) as objective, since they look away from it. Memory: readers' outputs of up to
eight runs and their gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.datasets.batch import Batch
from harness.discovery.held_groups import held_scores, n_groups
from harness.discovery.input_path import path_scores, riemann_points
from harness.discovery.problem import Discovery, Problem
from harness.spec.types import Objective

Variant = Literal["inputs", "activations", "clean_corrupted"]


@dataclass(frozen=True)
class EapIg:
    """`steps`: points on the straight line between the two ends (the paper's m).

    `variant`: what the gradient is averaged over; `objective`: what is attributed.
    """

    steps: int = 5
    variant: Variant = "inputs"
    objective: Objective = "metric"

    def discover(self, problem: Problem) -> Discovery:
        """Score all edges. Raises `HarnessError` if every score would be 0 or without meaning."""
        if self._points(problem) == (1.0,):  # one step under zero ablation
            problem.needs_slope("eap_ig", self.objective)
        total = torch.zeros(len(problem.space), dtype=torch.float64)
        for batch in problem.batches:
            total -= problem.edges.space.flat(self._batch(problem, batch)).double().cpu()
        return Discovery(total / (problem.n_pairs * self._runs(problem)), additive=True)

    def _batch(self, problem: Problem, batch: Batch) -> Tensor:
        if self.variant == "activations":
            return held_scores(problem, batch, self.objective, self.steps)
        return path_scores(problem, batch, self.objective, self._points(problem))

    def _runs(self, problem: Problem) -> int:
        if self.variant == "activations":
            return n_groups(problem.edges.graph) * self.steps
        return len(self._points(problem))

    def _points(self, problem: Problem) -> tuple[float, ...]:
        """Places on the line between the inputs; none where the inputs stay."""
        return {
            "inputs": riemann_points(problem, self.steps),
            "clean_corrupted": (0.0, 1.0),
            "activations": (),
        }[self.variant]
