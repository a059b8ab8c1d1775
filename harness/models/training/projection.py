"""Projection onto sparse weights: the largest entries of a tensor stay, all others become zero.

The threshold is found by selection, never by sorting. Of entries with equal magnitude those of
lowest index stay, so that a budget is used exactly wherever enough entries are nonzero.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


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
        first = largest(rows.contiguous(), min(least, rows.shape[1])) & (rows > 0)
        sizes = sizes.masked_fill(first if axis == 0 else first.T, torch.inf)
    weight.masked_fill_(~largest(sizes.reshape(1, -1), budget).view_as(weight), 0.0)


def largest(sizes: Tensor, k: int) -> Tensor:
    """Which entries of each row of `sizes` [n, m], none negative, are its k largest: bool [n, m].

    Exactly k of each row, of equal ones the first.
    """
    if k >= sizes.shape[1]:
        return torch.ones_like(sizes, dtype=torch.bool)
    at = sizes.shape[1] - k
    if sizes.device.type == "cpu":
        values = np.partition(sizes.numpy(), at, axis=1)
        threshold = torch.from_numpy(np.ascontiguousarray(values[:, at : at + 1]))
    else:
        threshold = sizes.kthvalue(at + 1, dim=1, keepdim=True).values
    kept = sizes >= threshold
    if int(kept.sum()) == k * len(sizes):
        return kept
    above = sizes > threshold
    equal = kept & ~above
    return above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True)))
