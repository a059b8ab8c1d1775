"""Integrated gradients over the mask: the slope of every edge's mask on the way from none to all.

score[w, r] = - mean over pairs and j of ∂loss/∂m[w, r] at the mask m = α_j everywhere,
with α_j = (j + ½)/k, j = 0 … k-1. At m = 1 the same slope is EAP's score (Sundararajan et al. 2017
for the integral; auto-circuit has it as mask gradients with integrated gradients).

The scores of all edges add up to loss(no edges) - loss(all edges); midpoints make that error fall
as 1/k². Distances to the whole model (kl, squared_error) are allowed: no point is the whole model.
Cost: one forward for the counterfactual and k masked passes forward and backward
(`patched.backward`): 0.2 + 0.7·k plain forward+backwards for GPT-2 small by count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.circuits.patchable import mask_gradient
from harness.datasets.batch import Batch
from harness.discovery.problem import Discovery, Problem
from harness.spec.types import Objective


@dataclass(frozen=True)
class MaskGradientIg:
    """`steps`: masks between the empty and the full one; `objective`: what is attributed."""

    steps: int = 10
    objective: Objective = "metric"

    def discover(self, problem: Problem) -> Discovery:
        """Score all elements from `steps` gradients of the mask per batch."""
        total = torch.zeros(len(problem.space), dtype=torch.float64)
        for batch in problem.batches:
            total -= self._gradients(problem, batch).double().cpu()
        return Discovery(total / (problem.n_pairs * self.steps), additive=True)

    def _gradients(self, problem: Problem, batch: Batch) -> Tensor:
        """∂loss/∂mask [E] summed over the steps and the pairs of a batch."""
        loss, counterfactual = (
            problem.loss(self.objective, batch),
            problem.counterfactuals.of(batch),
        )
        total = problem.mask_like.new_zeros(len(problem.space))
        for step in range(self.steps):
            mask = torch.full_like(total, (step + 0.5) / self.steps)
            total += mask_gradient(problem.patchable, batch, loss, counterfactual, mask)
        return total
