"""Prompt pairs as tensors, in batches of equal length, so that no pass ever sees padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.datasets.pairs import PromptPairs


@dataclass(frozen=True)
class Batch:
    """B prompt pairs of T tokens, read at P positions.

    `good` and `bad` are answer sets as token ids [B, P, ·], -1 where a set is shorter.
    `rows` are the pairs' places in the dataset they came from. `other` [B, T] are clean prompts of
    other pairs of the same length, for the ablation `resample`; None where a length has one pair.
    """

    clean: Tensor
    corrupted: Tensor
    positions: Tensor
    good: Tensor
    bad: Tensor
    rows: Tensor
    other: Tensor | None = None

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def read(self) -> Tensor:
        """Which of the P positions are used, bool [B, P]."""
        return self.positions >= 0

    def take(self, rows: Tensor) -> Batch:
        """The prompt pairs `rows` [b] alone."""
        rows = rows.to(self.clean.device)
        return Batch(
            self.clean[rows],
            self.corrupted[rows],
            self.positions[rows],
            self.good[rows],
            self.bad[rows],
            self.rows[rows],
            None if self.other is None else self.other[rows],
        )

    def at_positions(self, x: Tensor) -> Tensor:
        """Pick the read positions of x [..., B, T, D]: [..., B, P, D]."""
        index = self.positions.clamp(min=0)
        batch = torch.arange(len(self), device=x.device)[:, None]
        return x[..., batch, index, :]

    def from_positions(self, x: Tensor) -> Tensor:
        """Values x [S, B, P, D] of the read positions added up where they are read: [S, B, T, D].

        The transpose of `at_positions`: what x holds at an unused position counts at position 0.
        """
        spread = x.new_zeros(len(x), *self.clean.shape, x.shape[-1])
        rows = torch.arange(len(self), device=x.device)[:, None]
        where = (rows.expand_as(self.positions), self.positions.clamp(min=0))
        for into, one in zip(spread, x, strict=True):
            into.index_put_(where, one, accumulate=True)  # a position may be read twice
        return spread


def batches(pairs: PromptPairs, size: int, device: str = "cpu", seed: int = 0) -> Iterator[Batch]:
    """Cut prompt pairs into batches of at most `size` pairs of one length.

    `seed` draws each pair's partner among all pairs of its length, whatever the batch size.
    """
    partners = _partners(pairs, seed)

    def tensor(values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    for rows, part in pairs.buckets(size):
        alone = bool((partners[rows] == rows).any())
        other = pairs.clean[partners[rows], : part.clean.shape[1]]
        yield Batch(
            clean=tensor(part.clean),
            corrupted=tensor(part.corrupted),
            positions=tensor(part.positions),
            good=tensor(part.good),
            bad=tensor(part.bad),
            rows=tensor(rows),
            other=None if alone else tensor(other),
        )


def _partners(pairs: PromptPairs, seed: int) -> NDArray[np.int64]:
    """For each pair another one of its length (itself where there is no other): [n].

    The pairs of a length are put in random order, and each takes the next one's prompt.
    """
    rng = np.random.default_rng([seed, len(pairs)])
    partners = np.arange(len(pairs))
    for length in np.unique(pairs.lengths):
        members = rng.permutation(np.flatnonzero(pairs.lengths == length))
        partners[members] = np.roll(members, -1)
    return partners
