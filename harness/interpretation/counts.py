"""How often features are on where concepts are true, at several thresholds at once.

A feature is on at a token where its strength exceeds a share of its reference. All that precision,
recall, F1 and ply-matched base rates need are counts, added up while tokens stream by.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from harness.datasets.concepts import Bools

Floats = NDArray[np.float64]

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75)
"""Thresholds, as shares of a feature's reference."""

DENSE = 0.1
"""Share of active entries above which a product of dense matrices is faster."""


@dataclass(frozen=True)
class ConceptCounts:
    """Of S thresholds, F features and C concepts.

    `both` [S, F, C]: tokens at which the feature is on and the concept is true. `on` [S, F, P]:
    tokens at each of P positions at which it is on. `true` [P, C]: tokens there at which the
    concept is true. `tokens` [P].
    """

    both: NDArray[np.float32]
    on: Floats
    true: Floats
    tokens: Floats

    @property
    def precision(self) -> Floats:
        """Share of the tokens at which a feature is on that have the concept [S, F, C]."""
        return _ratio(self.both, self.on.sum(-1)[..., None])

    @property
    def recall(self) -> Floats:
        """Share of the tokens with the concept at which a feature is on [S, F, C]."""
        return _ratio(self.both, self.true.sum(0))

    @property
    def f1(self) -> Floats:
        """2·both / (on + true) [S, F, C]."""
        return _ratio(2 * self.both, self.on.sum(-1)[..., None] + self.true.sum(0))

    @property
    def base(self) -> Floats:
        """Precision of a feature that is on at the same positions, but at random there [S, F, C].

        Early in a game nearly every cell is empty: what is on early has a high precision for
        `empty` without knowing anything.
        """
        rate = _ratio(self.true, self.tokens[:, None])
        return _ratio(self.on @ rate, self.on.sum(-1)[..., None])

    @property
    def realised(self) -> Bools:
        """Concepts that are true at some token [C]."""
        realised: Bools = self.true.sum(0) > 0
        return realised


def _ratio(part: NDArray[np.floating], whole: NDArray[np.floating]) -> Floats:
    """part / whole, 0 where there is nothing."""
    nothing = np.zeros(np.broadcast_shapes(part.shape, whole.shape))
    np.divide(part, whole, out=nothing, where=whole > 0)
    return nothing


class ConceptCounter:
    """Adds up `ConceptCounts` of the features of one subject."""

    def __init__(self, reference: NDArray[np.float32], concepts: int, positions: int) -> None:
        features = len(reference)
        self.thresholds = np.outer(SHARES, reference).astype(np.float32)  # [S, F]
        # Counts below 2²⁴ are exact in float32.
        self._both = np.zeros((len(SHARES) * features, concepts), np.float32)
        self._on = np.zeros(len(SHARES) * features * positions)
        self._true = np.zeros((positions, concepts))
        self._tokens = np.zeros(positions)
        self._shape = (len(SHARES), features, concepts, positions)

    def add(self, code: Tensor, concepts: Bools, positions: NDArray[np.intp]) -> None:
        """Take strengths [N, F], what is true [N, C], and positions [N] of N tokens."""
        shares, features, _, places = self._shape
        code = code.float().cpu()
        token, feature = (x.numpy() for x in (code > 0).nonzero(as_tuple=True))
        strength = code[token, feature].numpy()
        level = (strength > self.thresholds[:, feature]).sum(0) - 1
        kept = level >= 0
        token, row = token[kept], (level * features + feature)[kept]
        labels = concepts.astype(np.float32)
        if len(token) > DENSE * code.numel():
            self._both += self._dense(code, labels)
        else:
            matrix = sparse.csr_matrix(
                (np.ones(len(token), np.float32), (row, token)),
                shape=(shares * features, len(code)),
            )
            self._both += _at_least(matrix @ labels, shares)
        self._on += np.bincount(row * places + positions[token], minlength=self._on.size)
        for place in np.unique(positions):
            here = positions == place
            self._true[place] += concepts[here].sum(0)
            self._tokens[place] += here.sum()

    def _dense(self, code: Tensor, labels: NDArray[np.float32]) -> NDArray[np.float32]:
        truth = torch.from_numpy(labels)
        on = [(code > torch.from_numpy(one)).float().T @ truth for one in self.thresholds]
        return torch.cat(on).numpy()

    def result(self) -> ConceptCounts:
        """The counts so far."""
        shares, features, concepts, places = self._shape
        on = _at_least(self._on.reshape(shares * features, places), shares)
        return ConceptCounts(
            self._both.reshape(shares, features, concepts).copy(),
            on.reshape(shares, features, places).astype(np.float64),
            self._true.copy(),
            self._tokens.copy(),
        )


def _at_least(counts: NDArray[np.floating], shares: int) -> NDArray[np.floating]:
    """Rows (level, feature) of what is on up to a level, to what is on at that level or above."""
    levels = counts.reshape(shares, -1, counts.shape[-1])
    summed: NDArray[np.floating] = levels[::-1].cumsum(0)[::-1].reshape(counts.shape)
    return summed
