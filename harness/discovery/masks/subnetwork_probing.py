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
from typing import TYPE_CHECKING, Annotated, ClassVar

from harness.discovery.fields import Minimised
from harness.discovery.info import MethodInfo
from harness.discovery.masks.settings import (
    PRICES,
    BatchSize,
    Draws,
    LearningRate,
    MaskTraining,
    Price,
    Steps,
    mask_passes,
)
from harness.discovery.problem import Discovery, Problem
from harness.spec.key import About, Key

if TYPE_CHECKING:
    from harness.discovery.masks.hard_concrete import PricedHardConcrete


@dataclass(frozen=True)
class SubnetworkProbing:
    """One training of hard-concrete masks for each price."""

    ABOUT: ClassVar = About("Parameters of `subnetwork_probing`", name="subnetwork_probing")

    prices: Annotated[
        tuple[Price, ...],
        Key(
            "Prices",
            "What each edge expected to be kept costs, in units of the objective (nats for kl); "
            "one training each.",
            [[0.01]],
            min_items=1,
            max_items=100,
        ),
    ] = PRICES
    steps: Steps = 1000
    learning_rate: Annotated[LearningRate, Key(examples=[0.1])] = 0.1
    batch_size: BatchSize = 32
    draws: Draws = 1
    objective: Minimised = "kl"

    def training(self) -> MaskTraining:
        """How each set of masks is trained."""
        return MaskTraining(self.steps, self.batch_size, self.objective, draws=self.draws)

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
    cost="per price and step 0.5 and 0.67 per draw, on `batch_size` pairs",
    objective="minimised",
    processes=True,
    trains_masks=True,
    passes=lambda params, extent: mask_passes(params, extent, "prices"),
    shards=True,
)
