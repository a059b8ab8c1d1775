"""Integrated gradients over the mask: the gradient of every mask from none to all.

score[w, r] = - mean over pairs and j of ∂loss/∂m[w, r] at the mask m = α_j everywhere,
with α_j = (j + ½)/k, j = 0 … k-1. At m = 1 the same gradient is EAP's score (Sundararajan
et al. 2017 for the integral; auto-circuit has it as mask gradients with integrated gradients).

The scores of all edges add up to loss(no edges) - loss(all edges); midpoints make that error fall
as 1/k². Distances to the whole model (kl, squared_error) are allowed: no point is the whole model.
Cost: one forward for the counterfactual and k masked passes forward and backward
(`patched.backward`): 0.2 + 0.7·k plain forward+backwards for GPT-2 small by count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from harness.discovery.fields import Attributed
from harness.discovery.info import MethodInfo
from harness.discovery.problem import Discovery, Problem
from harness.spec.key import About, Key

if TYPE_CHECKING:
    from torch import Tensor

    from harness.datasets.batch import Batch


@dataclass(frozen=True)
class MaskGradientIg:
    """`steps`: masks between the empty and the full one; `objective`: what is attributed."""

    ABOUT: ClassVar = About("Parameters of `mask_gradient_ig`", name="mask_gradient_ig")

    steps: Annotated[
        int,
        Key(
            "Steps",
            "Points between the empty and the full mask at which the gradient is taken.",
            [10],
            minimum=1,
            maximum=10_000,
        ),
    ] = 10
    objective: Attributed = "metric"

    def discover(self, problem: Problem) -> Discovery:
        """Score all elements from `steps` gradients of the mask per batch."""
        total = problem.summed(lambda batch: -self._gradients(problem, batch), "mask_gradient_ig")
        return Discovery(total / (problem.n_pairs * self.steps), additive=True)

    def _gradients(self, problem: Problem, batch: Batch) -> Tensor:
        """∂loss/∂mask [E] summed over the steps and the pairs of a batch."""
        import torch

        from harness.circuits.patchable import mask_gradient

        loss, counterfactual = (
            problem.loss(self.objective, batch),
            problem.counterfactuals.of(batch),
        )
        total = problem.mask_like.new_zeros(len(problem.space))
        for step in range(self.steps):
            mask = torch.full_like(total, (step + 0.5) / self.steps)
            total += mask_gradient(problem.patchable, batch, loss, counterfactual, mask)
        return total


INFO = MethodInfo(
    kind="mask_gradient_ig",
    title="Integrated gradients over the mask, from no element to all",
    method=MaskGradientIg,
    cost="0.2 + 0.7 · steps",
    objective="attributed",
    processes=True,
    passes=lambda params, extent: 0.2 + 0.7 * params["steps"],
    shards=True,
)
