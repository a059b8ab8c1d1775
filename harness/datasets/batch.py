"""Prompt pairs as tensors, in batches of equal length, so that no pass ever sees padding.

A batch is built when it is indexed; until then a pair is only its token ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from torch import Tensor

from harness.datasets.pairs import Ids, PromptPairs


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

    def read_tokens(self, tokens: Tensor | None = None) -> Tensor:
        """The tokens at the read positions [B, P], of the clean prompts or of `tokens` [B, T]."""
        return self.at_positions((self.clean if tokens is None else tokens)[..., None])[..., 0]

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


class Batches(Sequence[Batch]):
    """Prompt pairs in batches of at most `size` pairs of one length, shortest first.

    Can be iterated any number of times; each batch is built anew on `device`, so its tensors live
    only as long as a reference to it. `seed` draws each pair's partner among all pairs of its
    length, whatever the batch size. Memory per pair: its arrays in `pairs`, and 8 bytes.
    """

    def __init__(self, pairs: PromptPairs, size: int, device: str = "cpu", seed: int = 0) -> None:
        self.pairs, self.device = pairs, device
        self._cuts = pairs.cuts(size)
        self._partners = _partners(pairs, seed)

    def __len__(self) -> int:
        return len(self._cuts)

    @overload
    def __getitem__(self, index: int) -> Batch: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Batch, ...]: ...
    def __getitem__(self, index: int | slice) -> Batch | tuple[Batch, ...]:
        if isinstance(index, slice):
            return tuple(map(self._batch, self._cuts[index]))
        return self._batch(self._cuts[index])

    def _batch(self, rows: Ids) -> Batch:
        part, partners = self.pairs.unpadded(rows), self._partners[rows]
        alone = bool((partners == rows).any())
        other = self.pairs.clean[partners, : part.clean.shape[1]]
        return Batch(
            clean=self._tensor(part.clean),
            corrupted=self._tensor(part.corrupted),
            positions=self._tensor(part.positions),
            good=self._tensor(part.good),
            bad=self._tensor(part.bad),
            rows=self._tensor(rows),
            other=None if alone else self._tensor(other),
        )

    def _tensor(self, values: Ids) -> Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(self.device)


def _partners(pairs: PromptPairs, seed: int) -> Ids:
    """For each pair another one of its length (itself where there is no other): [n].

    The pairs of a length are put in random order, and each takes the next one's prompt.
    """
    rng = np.random.default_rng([seed, len(pairs)])
    partners = np.arange(len(pairs), dtype=np.int32)
    for length in np.unique(pairs.lengths):
        members = rng.permutation(np.flatnonzero(pairs.lengths == length).astype(np.int32))
        partners[members] = np.roll(members, -1)
    return partners
