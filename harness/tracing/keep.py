"""Which contributions to a target are kept, of all that there are.

    abs:X    at least X
    rel:X    at least the share X of the sum of all magnitudes
    topk:N   the N largest
    cum:X    the fewest that make up the share X of the sum of all magnitudes
    null:P   larger than all but the share P of what parts of other prompts, at the same tokens,
             contribute to the same target: beyond chance. Of those that contribute anything: places
             without a part, and tokens that the target does not read, say nothing of chance

Magnitudes count: a part that works against the target is kept as one that works for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from harness.errors import HarnessError

RuleKind = Literal["abs", "rel", "topk", "cum", "null"]

_RANGES: dict[str, Callable[[float], bool]] = {
    "abs": lambda x: x >= 0,
    "rel": lambda x: 0 <= x <= 1,
    "topk": lambda x: x >= 1 and x == int(x),
    "cum": lambda x: 0 < x <= 1,
    "null": lambda x: 0 < x < 1,
}


@dataclass(frozen=True)
class KeepRule:
    """One of the rules above and its number."""

    kind: RuleKind = "rel"
    amount: float = 0.01

    @classmethod
    def parse(cls, text: str) -> KeepRule:
        """Read `rel:0.01`. Raises `HarnessError` for other rules and numbers."""
        kind, _, number = text.partition(":")
        if kind in get_args(RuleKind):
            try:
                amount = float(number)
            except ValueError:
                amount = float("nan")
            if _RANGES[kind](amount):
                return cls(kind, amount)  # type: ignore[arg-type]
        raise HarnessError(
            f"no rule to keep contributions: {text!r}; there are abs:X (X from 0), rel:X (0 to 1), "
            "topk:N (N from 1), cum:X (0 to 1) and null:P (between 0 and 1)"
        )

    def kept(self, contributions: Tensor, chance: Tensor | None = None) -> Tensor:
        """Which of contributions [N, P] to N targets are kept, bool [N, P].

        `chance` [N, Q], for `null` alone: what parts of other prompts contribute to the targets.
        """
        size = contributions.abs()
        if self.kind == "abs":
            return (size >= self.amount) & (size > 0)
        if self.kind == "rel":
            return (size >= self.amount * size.sum(-1, keepdim=True)) & (size > 0)
        if self.kind == "topk":
            least = size.topk(min(int(self.amount), size.shape[-1]), -1).values[:, -1:]
            return (size >= least) & (size > 0)
        if self.kind == "cum":
            return self._cumulative(size)
        assert chance is not None
        return size > exceeded_by(chance.abs(), self.amount)[:, None]

    def _cumulative(self, size: Tensor) -> Tensor:
        ordered, order = size.sort(-1, descending=True)
        wanted = self.amount * ordered.sum(-1, keepdim=True)
        before = ordered.cumsum(-1) - ordered
        return torch.zeros_like(size, dtype=torch.bool).scatter(
            -1, order, (before < wanted) & (ordered > 0)
        )


def exceeded_by(sizes: Tensor, share: float) -> Tensor:
    """What a share of those of sizes [N, Q] that are not 0 exceeds, [N]; 0 where all are."""
    least = sizes.new_zeros(len(sizes))
    for row, every in enumerate(sizes):
        some = every[every > 0]
        if n := len(some):
            least[row] = some.kthvalue(n - int(share * n)).values
    return least
