"""Exact patching of elements: each is dropped alone, and the rest of the circuit is the model.

score[e] = mean over pairs of loss(all elements but e) - loss(all elements)

What gradients of masks and attribution patching estimate, for channels, neurons and features as
for edges. For edges `activation_patching` gives the same numbers at a fraction of the cost.
Cost: about a third of a plain forward+backward for each element.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.discovery.fields import OBJECTIVE_ALONE, Attributed
from harness.discovery.info import MethodInfo
from harness.discovery.problem import Discovery, Problem
from harness.progress import Stage, stage

if TYPE_CHECKING:
    from torch import Tensor

    from harness.datasets.batch import Batch

_BUFFER = 2**25
"""Numbers in the passes that are made together."""


@dataclass(frozen=True)
class ElementPatching:
    """Every element, one at a time, exactly. `objective`: the loss whose change is the score."""

    ABOUT: ClassVar = OBJECTIVE_ALONE

    objective: Attributed = "metric"

    def discover(self, problem: Problem) -> Discovery:
        """Score all elements by running the model without each of them."""
        import torch

        total = torch.zeros(len(problem.space), dtype=torch.float64)
        with stage("element patching", len(total) * len(problem.batches), "element") as shown:
            for batch in problem.batches:
                total += self._gained(problem, batch, shown)
        return Discovery(total / problem.n_pairs)

    def _gained(self, problem: Problem, batch: Batch, shown: Stage) -> Tensor:
        """Loss that a batch gains without each element, summed over its pairs: [E]."""
        import torch

        patchable, size = problem.patchable, len(problem.space)
        loss, counterfactual = (
            problem.loss(self.objective, batch),
            problem.counterfactuals.of(batch),
        )
        every = torch.ones(1, size, dtype=torch.bool, device=problem.device)
        whole = loss(patchable.logits(batch, every, counterfactual)).double()
        chunk = max(1, _BUFFER // patchable.numbers(batch.clean.numel()))
        gained = []
        for start in range(0, size, chunk):
            some = torch.arange(start, min(start + chunk, size), device=problem.device)
            masks = every.repeat(len(some), 1)
            masks[torch.arange(len(some), device=problem.device), some] = False
            without = loss(patchable.logits(batch, masks, counterfactual)).double()
            gained.append((without - whole).sum(-1).cpu())
            shown.advance(len(some))
        return torch.cat(gained)


INFO = MethodInfo(
    kind="element_patching",
    title="Exact patching of elements: every one is dropped alone",
    method=ElementPatching,
    cost="⅓ per element",
    objective="attributed",
    passes=lambda params, extent: extent.elements / 3,
    shards=True,
)
