"""AbsTopK: of each vector the k entries of largest magnitude, the others zero.

Which are kept is decided exactly, in every precision: of equal magnitudes the entry of lowest index
is kept, and 0 and -0.0 are equal. So exactly k entries are kept, of which some may be zero.
Gradients pass through kept entries alone.

The threshold of each vector is found by selection, never by sorting: on a CPU numpy's partition
takes 2.0 ms for 2,048 vectors of 256 numbers, `torch.topk` 11.6 and `kthvalue` 12.9 (one thread).
In half precision most vectors have equal magnitudes, so that their places decide from the start.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_PLACES = 2**16


def abs_topk(x: Tensor, k: int) -> Tensor:
    """x [..., n] with all but the k entries of largest magnitude of each vector set to zero."""
    return x * largest(x, k) if k < x.shape[-1] else x


@torch.no_grad()
def largest(x: Tensor, k: int) -> Tensor:
    """Which entries of x [..., n] are kept: bool [..., n], exactly k of each vector."""
    if k >= x.shape[-1]:
        return torch.ones_like(x, dtype=torch.bool)
    # Without their sign, floats are ordered as the integers of the same bits.
    sizes = x.detach().abs().contiguous().view(_BITS[x.element_size()])
    if x.element_size() == 2 and x.shape[-1] <= _PLACES:
        ranks = _ranks(sizes)
        return ranks >= _threshold(ranks, k)
    threshold = _threshold(sizes, k)
    if x.device.type == "cpu":
        kept = sizes >= threshold
        if np.count_nonzero(kept.numpy()) == kept.numel() // kept.shape[-1] * k:
            return kept
    return _decided(sizes, threshold, k)


def _ranks(sizes: Tensor) -> Tensor:
    """Sizes [..., n] of 16 bits before places counted from the last: int32, no two equal."""
    places = torch.arange(sizes.shape[-1] - 1, -1, -1, dtype=torch.int32, device=sizes.device)
    return sizes.to(torch.int32).mul_(_PLACES).add_(places)


def _threshold(sizes: Tensor, k: int) -> Tensor:
    """The k-th largest of each vector [..., 1]."""
    if sizes.device.type != "cpu":
        return sizes.topk(k, -1, sorted=False).values.amin(-1, keepdim=True)
    at = sizes.shape[-1] - k
    parted = sizes.numpy().copy()
    parted.partition(at, axis=-1)
    return torch.from_numpy(parted[..., at : at + 1])


def _decided(sizes: Tensor, threshold: Tensor, k: int) -> Tensor:
    """Sizes above the threshold [..., 1], and of those equal to it the first, k in all."""
    above, equal = sizes > threshold, sizes == threshold
    left = k - above.sum(-1, keepdim=True)
    return above | (equal & (equal.cumsum(-1) <= left))
