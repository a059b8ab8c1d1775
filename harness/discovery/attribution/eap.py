"""Edge attribution patching (Syed et al. 2023): a first-order estimate of every edge's effect.

score[w, r] = - mean over pairs of Σ_positions (x_w - x̃_w) · ∂loss/∂(input of r) at the clean run,
that is, how much the loss (-metric) would grow, to first order, if the edge carried x̃_w.

Cost: one forward for the counterfactual, one forward and one backward of activations, one mixing
product, whatever the number of edges. `harness bench` measures it beside the floor (about 0.8
plain forward+backwards for GPT-2 small).
Where each position has its own edges, score[t, w, r] is the part of position t of that sum.
Positive = the edge helps. EAP-IG's library has the same sign, divided once more by the batch size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.discovery.fields import OBJECTIVE_ALONE, Attributed
from harness.discovery.info import MethodInfo
from harness.discovery.problem import Discovery, Problem

if TYPE_CHECKING:
    from torch import Tensor

    from harness.datasets.batch import Batch


@dataclass(frozen=True)
class Eap:
    """Gradient at the clean run times the difference to the counterfactual.

    `objective`: what is attributed; the distances to the whole model have no gradient there.
    """

    ABOUT: ClassVar = OBJECTIVE_ALONE

    objective: Attributed = "metric"

    def discover(self, problem: Problem) -> Discovery:
        """Score all edges from one gradient per batch."""
        problem.refuse_distance("eap", self.objective)
        total = problem.summed(lambda batch: -self._growth(problem, batch), "eap")
        return Discovery(total / problem.n_pairs, additive=True)

    def _growth(self, problem: Problem, batch: Batch) -> Tensor:
        """How much the loss summed over a batch would shrink, by element; its runs end here."""
        from harness.circuits.patchable import Attributing, mask_gradient

        patchable, counterfactual = problem.patchable, problem.counterfactuals.of(batch)
        loss = problem.loss(self.objective, batch)
        if isinstance(patchable, Attributing):
            return patchable.attribute(batch, loss, counterfactual).double().cpu()
        full = problem.mask_like.new_ones(len(problem.space))
        return mask_gradient(patchable, batch, loss, counterfactual, full).double().cpu()


INFO = MethodInfo(
    kind="eap",
    title="Edge attribution patching: a first-order estimate of every edge's effect",
    method=Eap,
    cost="0.8, whatever the number of edges",
    objective="attributed",
    at_model=lambda params, ablation: True,
    processes=True,
    passes=lambda params, extent: 0.85,
    shards=True,
)
