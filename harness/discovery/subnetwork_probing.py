"""Subnetwork probing (Cao et al. 2021) on edges: hard-concrete masks, each edge at a price.

    minimise over a:   objective + price · sum over edges of P(z > 0)

An edge is kept if it is worth its price, in units of the objective. Where Edge Pruning steers to a
wanted sparsity, here the price decides it: one training for each price, circuits of n edges are cut
from the training whose expected size is nearest to n.

Cost per price: `steps`, each 1.1 plain forward+backwards of its prompts for GPT-2 small by count,
of which 0.5 are the whole model and the counterfactual where they are not kept, and 0.67 for every
further draw (`mask_training`); `harness bench` measures a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.circuits import hard_concrete
from harness.discovery.mask_sets import PriceSweep
from harness.discovery.problem import Discovery, Problem

_START = 3.0
"""Masks begin nearly all one (P(z = 1) = 0.80), yet unsaturated, so that all have a gradient."""


@dataclass(frozen=True)
class SubnetworkProbing(PriceSweep):
    """`prices`: what an expected edge costs."""

    def discover(self, problem: Problem) -> Discovery:
        """Train one set of masks per price."""

        def law(prices: Sequence[float]) -> PricedMasks:
            return PricedMasks.new(problem, prices, self.learning_rate)

        return self.over(problem, law, "subnetwork probing at")


@dataclass
class PricedMasks:
    """Hard-concrete masks with a price on every edge that may be kept."""

    prices: Tensor  # [S]
    learning_rate: float
    elements: Tensor  # [S, E]

    @classmethod
    def new(cls, problem: Problem, prices: Sequence[float], learning_rate: float) -> PricedMasks:
        """Masks at the start."""
        like = problem.mask_like
        elements = like.new_full((len(prices), len(problem.space)), _START)
        return cls(torch.tensor(prices).to(like), learning_rate, elements.requires_grad_())

    def groups(self) -> list[dict[str, Any]]:
        """One group, without weight decay."""
        return [{"params": [self.elements], "lr": self.learning_rate, "weight_decay": 0.0}]

    def draw(self, generator: torch.Generator) -> Tensor:
        """One mask per set and element [S, E]."""
        return hard_concrete.draw(self.elements, generator)

    def pressure(self, drawn: Tensor, step: int) -> Tensor:
        """price · Σ P(z > 0) of each set [S]."""
        return self.prices * self.kept().sum(-1)

    def stepped(self) -> None:
        """Nothing to keep in range."""

    def kept(self) -> Tensor:
        """P(z > 0) of each set and element [S, E]."""
        return hard_concrete.kept(self.elements.double())

    def report(self) -> Mapping[str, Tensor]:
        """Expected sparsity, share of undecided masks, of each set [S]."""
        elements = self.elements.detach()
        return {
            "sparsity": 1 - hard_concrete.kept(elements).mean(-1),
            "undecided": hard_concrete.undecided(elements),
        }
