"""Uniform gradient sampling (Li & Janson 2024): masks drawn where their gradient is informative.

Each edge has a keeping probability θ. With u ~ U(0, 1) and a window of width w = θ(1-θ), which has
no gradient itself, its mask is
    z = 1 - clip((u - θ)/w + ½, 0, 1),
so that z is uniform in (0, 1) with probability w, else 0 or 1, and its gradient estimates the
effect of the edge averaged over the line from dropped to kept.

    minimise over θ:   objective + price · sum over edges of θ

One training for each price, in units of the objective; see `mask_sets`.

Cost per price: as subnetwork probing, `steps` of 1.1 plain forward+backwards of their prompts for
GPT-2 small by count and 0.67 for every further draw (`mask_training`); `harness bench` measures a
step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.discovery.mask_sets import PriceSweep
from harness.discovery.problem import Discovery, Problem

_START = 3.0
"""Start of logit θ: edges are kept with probability 0.95. Where they are dropped often, a circuit
whose edges are all needed together hardly ever works, and no edge of it is missed."""

_BETAS = (0.9, 0.995)
_NARROWEST = 1e-6


@dataclass(frozen=True)
class UniformGradientSampling(PriceSweep):
    """`prices`: what a sure edge costs."""

    def discover(self, problem: Problem) -> Discovery:
        """Train one set of keeping probabilities per price."""

        def law(prices: Sequence[float]) -> WindowMasks:
            return WindowMasks.new(problem, prices, self.learning_rate)

        return self.over(problem, law, "uniform gradient sampling at", _BETAS)


@dataclass
class WindowMasks:
    """Keeping probabilities as their logits [S, E], with a price each [S]."""

    prices: Tensor
    learning_rate: float
    logits: Tensor

    @classmethod
    def new(cls, problem: Problem, prices: Sequence[float], learning_rate: float) -> WindowMasks:
        """Probabilities at the start."""
        like = problem.mask_like
        logits = like.new_full((len(prices), len(problem.space)), _START)
        return cls(torch.tensor(prices).to(like), learning_rate, logits.requires_grad_())

    def groups(self) -> list[dict[str, Any]]:
        """One group, without weight decay."""
        return [{"params": [self.logits], "lr": self.learning_rate, "weight_decay": 0.0}]

    def draw(self, generator: torch.Generator) -> Tensor:
        """One mask per set and element [S, E]."""
        theta = self.logits.sigmoid()
        u = torch.rand(theta.shape, generator=generator, device=theta.device, dtype=theta.dtype)
        window = (theta * (1 - theta)).detach().clamp(min=_NARROWEST)
        return 1 - ((u - theta) / window + 0.5).clamp(0, 1)

    def pressure(self, drawn: Tensor, step: int) -> Tensor:
        """price · Σ θ of each set [S]."""
        return self.prices * self.kept().sum(-1)

    def stepped(self) -> None:
        """Nothing to keep in range."""

    def kept(self) -> Tensor:
        """Keeping probability of each set and element [S, E]."""
        return self.logits.double().sigmoid()

    def report(self) -> Mapping[str, Tensor]:
        """Expected sparsity, mean width of the windows, of each set [S]."""
        theta = self.kept().detach()
        return {
            "sparsity": 1 - theta.mean(-1),
            "undecided": (theta * (1 - theta)).mean(-1),
        }
