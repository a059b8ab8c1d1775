"""A norm with its scale held at that of one run: linear in the stream, value kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.models.norm import Norm

Rows = slice | Tensor | tuple[int, Tensor]
"""Which tokens the rows of an argument stand for: all of them, or one token for each row.

Queries and keys have a norm for each head: a head and its tokens.
"""

ALL = slice(None)


@dataclass(frozen=True)
class FrozenNorm:
    """y = gain · (x - mean x if centred) + bias, for T tokens.

    `gain` [T, D] is the norm's weight over the scale of the run; `bias` [T, D]. Channels that are
    masked after the norm have neither.
    """

    gain: Tensor
    bias: Tensor | None
    centred: bool

    @classmethod
    def of(cls, norm: Norm, x: Tensor, mask: Tensor | None = None) -> FrozenNorm:
        """At the values x [T, D] that were normalised; `mask` [T, D]: what is kept after it."""
        centred = norm.kind == "layernorm"
        if norm.kind == "none":
            gain = torch.ones_like(x)
        else:
            spread = x - x.mean(-1, keepdim=True) if centred else x
            gain = norm.weight * (spread.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
        bias = None if norm.bias is None else norm.bias.expand_as(x)
        if mask is not None:
            gain, bias = gain * mask, None if bias is None else bias * mask
        return cls(gain, bias, centred)

    def apply(self, parts: Tensor, rows: Rows = ALL) -> Tensor:
        """What parts [..., rows, D] of the stream are after the norm, without its bias."""
        if self.centred:
            parts = parts - parts.mean(-1, keepdim=True)
        return parts * self.gain[rows]

    def adjoint(self, direction: Tensor, rows: Rows = ALL) -> Tensor:
        """A direction [..., rows, D] after the norm as one before it."""
        before = direction * self.gain[rows]
        return before - before.mean(-1, keepdim=True) if self.centred else before

    def constant(self, direction: Tensor, rows: Rows = ALL) -> Tensor:
        """What the bias contributes in a direction [..., rows, D] after the norm: [..., rows]."""
        if self.bias is None:
            return direction.new_zeros(direction.shape[:-1])
        return (direction * self.bias[rows]).sum(-1)

    def whole(self, x: Tensor) -> Tensor:
        """The norm's output [T, D] for the stream x [T, D] that it is frozen at."""
        return self.apply(x) if self.bias is None else self.apply(x) + self.bias
