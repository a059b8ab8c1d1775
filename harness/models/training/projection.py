"""Projection onto sparse weights: the largest entries of a tensor stay, all others become zero.

Of entries with equal magnitude those of lowest index stay, so that a budget is used exactly
wherever enough entries are nonzero. `harness.models.abs_topk` selects them without sorting.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.models.abs_topk import largest


@torch.no_grad()
def project(weight: Tensor, budget: int, least: int = 0, axis: int = 0) -> None:
    """Zero all but `budget` entries of a tensor, in place: those of largest magnitude stay.

    The `least` largest nonzero entries of each index of `axis` of a matrix stay before all others;
    together they must not be more than the budget.
    """
    if budget >= weight.numel():
        return
    sizes = weight.abs()
    if least:
        rows = sizes if axis == 0 else sizes.T
        first = largest(rows, min(least, rows.shape[1])) & (rows > 0)
        sizes = sizes.masked_fill(first if axis == 0 else first.T, torch.inf)
    weight.masked_fill_(~largest(sizes.flatten(), budget).view_as(weight), 0.0)
