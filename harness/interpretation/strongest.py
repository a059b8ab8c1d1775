"""The tokens at which each feature is strongest, kept while tokens stream by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Strongest:
    """Of F features at most k tokens each, strongest first.

    `strengths` float32 and `tokens` int64 [F, k], padded with 0 and -1; `counts` [F] how many there
    are. `active` [F]: tokens at which the feature is active; `seen`: tokens in all.
    """

    strengths: NDArray[np.float32]
    tokens: NDArray[np.int64]
    counts: NDArray[np.int64]
    active: NDArray[np.int64]
    seen: int

    def of(self, feature: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Strengths and tokens of a feature, without padding: [n] each, strongest first."""
        n = int(self.counts[feature])
        return self.strengths[feature, :n], self.tokens[feature, :n]

    @property
    def reference(self) -> NDArray[np.float32]:
        """A large strength of each feature [F]: its tenth largest, so that no outlier decides."""
        place = np.minimum(self.counts, 10) - 1
        return np.where(
            self.counts > 0, self.strengths[np.arange(len(place)), place.clip(0)], 0
        ).astype(np.float32)


class StrongestTokens:
    """Keeps the k strongest tokens of F features.

    Only what exceeds a feature's k-th strength so far is kept, and sorted now and then: of
    features that are active at 3 % of a million tokens, few tokens are ever looked at twice.
    """

    def __init__(self, features: int, k: int) -> None:
        self.features, self.k = features, k
        self.seen = 0
        self._active = np.zeros(features, np.int64)
        self._floor = np.zeros(features, np.float32)
        self._owner = np.zeros(0, np.int32)
        self._strength = np.zeros(0, np.float32)
        self._token = np.zeros(0, np.int64)
        self._waiting: list[tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int64]]] = []
        self._n_waiting = 0

    def add(self, code: Tensor, first: int) -> None:
        """Take strengths [N, F] of tokens `first` … `first` + N - 1."""
        code = code.float().cpu()
        places = code.nonzero(as_tuple=True)
        strength = code[places].numpy()
        token, owner = (one.numpy() for one in places)
        self._active += np.bincount(owner, minlength=self.features)
        higher = strength > self._floor[owner]
        token, owner, strength = token[higher], owner[higher], strength[higher]
        self._waiting.append((owner.astype(np.int32), strength, token + first))
        self.seen += len(code)
        self._n_waiting += len(owner)
        if self._n_waiting > max(1 << 20, self.features * self.k):
            self._sort()

    def _sort(self) -> None:
        """Merge what waits, and raise the floors."""
        parts = [(self._owner, self._strength, self._token), *self._waiting]
        owner, strength, token = (np.concatenate(column) for column in zip(*parts, strict=True))
        # Bits of positive floats are ordered as they are. Tokens come in order, and stay so.
        weakness = np.uint64(0xFFFFFFFF) - strength.view(np.uint32).astype(np.uint64)
        order = np.argsort(owner.astype(np.uint64) << np.uint64(32) | weakness, kind="stable")
        owner = owner[order]
        starts = np.searchsorted(owner, np.arange(self.features))
        rank = np.arange(len(owner)) - starts[owner]
        kept = order[rank < self.k]
        last = rank == self.k - 1
        self._floor[owner[last]] = strength[order[last]]
        both = np.concatenate([self._owner, *(x[0] for x in self._waiting)])
        self._owner, self._strength, self._token = both[kept], strength[kept], token[kept]
        self._waiting, self._n_waiting = [], 0

    def result(self) -> Strongest:
        """All that was seen; can be asked for again after more tokens."""
        self._sort()
        counts = np.bincount(self._owner, minlength=self.features)
        rank = np.arange(len(self._owner)) - (np.cumsum(counts) - counts)[self._owner]
        strengths = np.zeros((self.features, self.k), np.float32)
        tokens = np.full((self.features, self.k), -1, np.int64)
        strengths[self._owner, rank] = self._strength
        tokens[self._owner, rank] = self._token
        return Strongest(strengths, tokens, counts, self._active.copy(), self.seen)
