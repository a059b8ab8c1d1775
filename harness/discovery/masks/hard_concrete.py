"""Hard-concrete masks whose size is held by a constraint or by a price.

`harness.circuits.hard_concrete` is the distribution itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.circuits import hard_concrete

if TYPE_CHECKING:
    from harness.discovery.masks.edge_pruning import EdgePruning
    from harness.discovery.problem import Problem

_START_SPREAD = 0.01
_PRICED_START = 3.0
"""Priced masks begin nearly all one (P(z = 1) = 0.80), yet unsaturated, so that all have a
gradient."""


@dataclass
class ConstrainedHardConcrete:
    """Hard-concrete masks and the Lagrange multipliers that hold their sparsity, for S targets."""

    settings: EdgePruning
    targets: Tensor  # [S]
    elements: Tensor  # [S, E]
    nodes: Tensor | None  # [S, N]
    owners: Tensor  # each element's node among these [E]
    multipliers: Tensor  # λ₁, λ₂ [2, S]

    @classmethod
    def new(
        cls, settings: EdgePruning, problem: Problem, targets: Sequence[float]
    ) -> ConstrainedHardConcrete:
        """Masks at the start: almost surely all one."""
        space, like = problem.space, problem.mask_like

        def parameters(count: int) -> Tensor:
            noise = torch.randn(len(targets), count, generator=problem.generator)
            return (settings.start + noise * _START_SPREAD).to(like).requires_grad_()

        return cls(
            settings,
            torch.tensor(targets).to(like),
            parameters(len(space)),
            parameters(len(space.nodes)) if settings.nodes else None,
            space.owners.to(like.device),
            like.new_zeros(2, len(targets)).requires_grad_(),
        )

    @property
    def _masks(self) -> list[Tensor]:
        return [self.elements] if self.nodes is None else [self.elements, self.nodes]

    def groups(self) -> list[dict[str, Any]]:
        """Masks go down; multipliers go up the same loss."""
        decay, lr = self.settings.weight_decay, self.settings.learning_rate
        climb = {"lr": self.settings.multiplier_rate, "maximize": True}
        return [
            {"params": self._masks, "lr": lr, "weight_decay": decay},
            {"params": [self.multipliers], "weight_decay": decay, **climb},
        ]

    def draw(self, generator: torch.Generator) -> Tensor:
        """One mask per set and element [S, E]."""
        drawn = hard_concrete.draw(self.elements, generator)
        if self.nodes is None:
            return drawn
        return drawn * hard_concrete.draw(self.nodes, generator)[:, self.owners]

    def kept(self) -> Tensor:
        """P(z > 0) of each set and element [S, E]."""
        own = hard_concrete.kept(self.elements.double())  # in single precision sure edges would tie
        if self.nodes is None:
            return own
        return own * hard_concrete.kept(self.nodes.double())[:, self.owners]

    def pressure(self, drawn: Tensor, step: int) -> Tensor:
        """λ₁·(s - t) + λ₂·(s - t)² of each set [S]."""
        share = self.kept() if self.settings.control == "expected" else drawn
        warm = self.settings.sparsity_warmup * self.settings.steps
        gap = 1 - share.mean(-1) - self.targets * min(1.0, step / max(warm, 1))
        return self.multipliers[0] * gap + self.multipliers[1] * gap.square()

    @torch.no_grad()
    def stepped(self) -> None:
        """Keep parameters where they can still move."""
        if self.settings.clamp is not None:
            for parameters in self._masks:
                parameters.clamp_(-self.settings.clamp, self.settings.clamp)

    def report(self) -> Mapping[str, Tensor]:
        """Expected sparsity, share of undecided masks, multipliers, of each set [S]."""
        return {
            "sparsity": 1 - self.kept().detach().mean(-1),
            "undecided": hard_concrete.undecided(self.elements.detach()),
            "lambda1": self.multipliers[0].detach(),
            "lambda2": self.multipliers[1].detach(),
        }


@dataclass
class PricedHardConcrete:
    """Hard-concrete masks with a price on every element that may be kept."""

    prices: Tensor  # [S]
    learning_rate: float
    elements: Tensor  # [S, E]

    @classmethod
    def new(
        cls, problem: Problem, prices: Sequence[float], learning_rate: float
    ) -> PricedHardConcrete:
        """Masks at the start."""
        like = problem.mask_like
        elements = like.new_full((len(prices), len(problem.space)), _PRICED_START)
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
