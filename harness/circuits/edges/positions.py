"""Token positions that distinguish edges, under `evaluation.positions: per_token`."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Positions:
    """The `count` = T positions of prompts that all have one length.

    `read`: where answers are read; elsewhere what reaches `logits` is never looked at. It tells
    dead ends, not edges apart, so circuits read at different positions have one graph. `causal`:
    heads look at their own and earlier positions, else at all. A head that looks less far back (a
    window) is taken to look at all earlier ones.
    """

    count: int
    read: tuple[int, ...] = field(compare=False)
    causal: bool = True

    def looked_at(self) -> Tensor:
        """Whether keys and values of a position (row) are looked at from another: bool [T, T]."""
        everywhere = torch.ones(self.count, self.count, dtype=torch.bool)
        return everywhere.triu() if self.causal else everywhere

    def answers(self) -> Tensor:
        """Where answers are read: bool [T]."""
        answers = torch.zeros(self.count, dtype=torch.bool)
        answers[list(self.read)] = True
        return answers
