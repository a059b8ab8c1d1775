"""Subnetwork probing (Cao et al. 2021) on edges: hard-concrete masks, each edge at a price.

    minimise over a:   objective + price · sum over edges of P(z > 0)

An edge is kept if it is worth its price, in units of the objective. Where Edge Pruning steers to a
wanted sparsity, here the price decides it: one training for each price, circuits of n edges are cut
from the training whose expected size is nearest to n.

Cost per price: `steps`, each 1.1 plain forward+backwards of its prompts for GPT-2 small by count,
of which 0.5 are the whole model and the counterfactual where they are not kept, and 0.67 for every
further draw (`masks.training`); `harness bench` measures a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.discovery.info import MethodInfo
from harness.discovery.masks.settings import Training
from harness.discovery.problem import Discovery, Problem
from harness.spec.types import Objective

if TYPE_CHECKING:
    from harness.discovery.masks.hard_concrete import PricedHardConcrete


@dataclass(frozen=True)
class SubnetworkProbing:
    """`prices`: what an expected edge costs; see `specs/method.schema.json` for the others."""

    prices: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1)
    steps: int = 1000
    learning_rate: float = 0.1
    batch_size: int = 32
    draws: int = 1
    objective: Objective = "kl"

    def training(self) -> Training:
        """How each set of masks is trained."""
        return Training(self.steps, self.batch_size, self.objective, draws=self.draws)

    def distribution(self, problem: Problem, levels: Sequence[float]) -> PricedHardConcrete:
        """Hard-concrete masks, one set for each price."""
        from harness.discovery.masks.hard_concrete import PricedHardConcrete

        return PricedHardConcrete.new(problem, levels, self.learning_rate)

    def discover(self, problem: Problem) -> Discovery:
        """Train one set of masks per price."""
        from harness.discovery.masks.training import train_masks

        labels = [f"{price:g}" for price in self.prices]
        return train_masks(problem, self, self.prices, labels, "subnetwork probing at")


INFO = MethodInfo(
    kind="subnetwork_probing",
    title="Hard-concrete masks at a fixed price for each element",
    method=SubnetworkProbing,
    cost="per price `steps` of about 1.1 of their prompts, 0.67 more for every further draw",
    objective="minimised",
    trains_masks=True,
)
