"""Prompt pairs in small batches, in random order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from harness.datasets.batch import Batch


@dataclass(frozen=True)
class Shuffled:
    """Small batches of at most `size` pairs of one length, every pair in one: 4 bytes a pair.

    `rows`: the pairs of each batch, shuffled; cut into small batches that are numbered on from
    batch to batch, `ends` being one past the last of each. `parts`: these numbers, shuffled.
    """

    rows: list[Tensor]
    parts: Tensor
    ends: list[int]
    size: int

    @classmethod
    def of(cls, batches: Sequence[Batch], size: int, generator: torch.Generator) -> Shuffled:
        """An order of all pairs of `batches`."""
        rows = [
            torch.randperm(len(batch), generator=generator, dtype=torch.int32) for batch in batches
        ]
        ends = list(accumulate(-(-len(one) // size) for one in rows))
        return cls(rows, torch.randperm(ends[-1], generator=generator), ends, size)

    def __len__(self) -> int:
        return len(self.parts)

    def at(self, place: int) -> tuple[int, Tensor]:
        """The small batch at a place: (batch, rows [b])."""
        part = int(self.parts[place])
        index = bisect_right(self.ends, part)
        first = (part - (self.ends[index - 1] if index else 0)) * self.size
        return index, self.rows[index][first : first + self.size].long()

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        return map(self.at, range(len(self)))
