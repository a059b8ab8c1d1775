"""Masks that are uniform in a window around their keeping probability, else 0 or 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.discovery.problem import Problem

_START = 3.0
"""Start of logit θ: elements are kept with probability 0.95. Where they are dropped often, a
circuit whose elements are all needed together hardly ever works, and none of it is missed."""

_NARROWEST = 1e-6


@dataclass
class UniformWindow:
    """Keeping probabilities as their logits [S, E], with a price each [S]."""

    prices: Tensor
    learning_rate: float
    logits: Tensor

    @classmethod
    def new(cls, problem: Problem, prices: Sequence[float], learning_rate: float) -> UniformWindow:
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
