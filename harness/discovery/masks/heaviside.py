"""Masks that are 1 where their parameter is positive, else 0, and learn by a surrogate gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from harness.discovery.masks.heaviside_masks import HeavisideMasks
    from harness.discovery.problem import Problem

LARGEST = 1.0
"""Parameters are kept in [-1, 1], where the surrogate still has a gradient."""


@dataclass
class Heaviside:
    """Parameters τ [S, G] of S sets, one for each group of elements that share a mask.

    `prices`: of all elements together [S]; `groups_of`: the group of each element [E].
    """

    settings: HeavisideMasks
    prices: Tensor
    tau: Tensor
    groups_of: Tensor

    @classmethod
    def new(
        cls,
        settings: HeavisideMasks,
        problem: Problem,
        prices: Sequence[float],
        groups_of: Tensor,
    ) -> Heaviside:
        """All masks 1, with noise that decides between equals."""
        like, count = problem.mask_like, int(groups_of.max()) + 1
        noise = torch.randn(len(prices), count, generator=problem.generator)
        start = settings.start + settings.start_noise * noise
        tau = start.clamp(-LARGEST, LARGEST).to(like).requires_grad_()
        tau.register_hook(settings.clipped)
        return cls(settings, torch.tensor(prices).to(like), tau, groups_of.to(like.device))

    def groups(self) -> list[dict[str, Any]]:
        """One group."""
        decay, lr = self.settings.weight_decay, self.settings.learning_rate
        return [{"params": [self.tau], "lr": lr, "weight_decay": decay}]

    def draw(self, generator: torch.Generator) -> Tensor:
        """1[τ > 0] of each set and element [S, E], with the gradient of sigmoid(τ / T)."""
        soft = (self.tau / self.settings.temperature).sigmoid()
        hard = (self.tau > 0).to(soft.dtype)
        return (hard + (soft - soft.detach()))[:, self.groups_of]

    def pressure(self, drawn: Tensor, step: int) -> Tensor:
        """price · kept share of each set [S]; the price rises from 0 over the ramp."""
        ramp = self.settings.ramp * self.settings.steps
        return self.prices * min(1.0, step / max(ramp, 1.0)) * drawn.mean(-1)

    @torch.no_grad()
    def stepped(self) -> None:
        """Keep parameters where they can still change sign."""
        self.tau.clamp_(-LARGEST, LARGEST)

    def kept(self) -> Tensor:
        """(τ + 1) / 2, which ranks as τ does: above ½ where the mask is 1 [S, E]."""
        return ((self.tau.double() + LARGEST) / (2 * LARGEST))[:, self.groups_of]

    def report(self) -> Mapping[str, Tensor]:
        """Share of masks that are 0, and of parameters inside their bounds, of each set [S]."""
        tau = self.tau.detach()
        return {
            "sparsity": 1 - (self.kept().detach() > 0.5).double().mean(-1),
            "undecided": (tau.abs() < LARGEST).double().mean(-1),
        }
