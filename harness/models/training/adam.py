"""What Adam remembers of weights, as tensors by name: written into checkpoints and taken up."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq")


def moments(adam: torch.optim.Optimizer, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The moments of every weight, by name."""
    return {
        f"{moment}.{name}": adam.state[weight][moment]
        for name, weight in weights.items()
        for moment in MOMENTS
    }


def take_up(
    adam: torch.optim.Optimizer,
    weights: Mapping[str, Tensor],
    stored: Mapping[str, Tensor],
    step: int,
) -> None:
    """Go on from the moments that `stored` has of the weights after `step` steps."""
    for name, weight in weights.items():
        held = {moment: stored[f"{moment}.{name}"].to(weight) for moment in MOMENTS}
        count = torch.tensor(float(step), device=weight.device)
        adam.state[weight] = {"step": count, **held}
