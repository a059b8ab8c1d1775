"""Parts: vectors that sum to what a module writes, at every token.

Shapes: T tokens, S columns of parts, D = d_model, N directions asked for at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from harness.tracing.frozen.mlps import FrozenMLP, through
from harness.tracing.frozen.norms import ALL

PartKind = Literal["embed", "position", "feature", "neuron", "head", "module", "bias", "error"]


class Parts(Protocol):
    """Parts of a module's output, S at every token."""

    @property
    def units(self) -> Tensor:
        """Which feature, neuron or head a column is at each token, -1 where it is none: [T, S]."""
        ...

    @property
    def values(self) -> Tensor:
        """How active it is, [T, S]; 1 where that has no meaning."""
        ...

    def per_unit(self, direction: Tensor) -> Tensor:
        """Directions [N, T, D] times what one unit of activity writes: [N, T, S]."""
        ...

    def per_unit_at(self, direction: Tensor, rows: Tensor) -> Tensor:
        """The same for directions [N, D] at one token each: [N, S]."""
        ...

    def vectors(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The parts at tokens [E] and columns [E]: [E, D]."""
        ...


@dataclass(frozen=True)
class Explicit:
    """Parts whose directions are stored: value · direction, directions [T, S, D]."""

    units: Tensor
    values: Tensor
    directions: Tensor

    @classmethod
    def whole(cls, vectors: Tensor, units: Tensor | None = None) -> Explicit:
        """Parts [T, S, D] that have no activity but themselves."""
        length, columns, _ = vectors.shape
        if units is None:
            units = torch.arange(columns, device=vectors.device).expand(length, -1)
        return cls(units, vectors.new_ones(length, columns), vectors)

    def per_unit(self, direction: Tensor) -> Tensor:
        """[N, T, D] to [N, T, S]."""
        products = torch.bmm(self.directions, direction.permute(1, 2, 0))  # [T, S, N]
        return products.permute(2, 0, 1)

    def per_unit_at(self, direction: Tensor, rows: Tensor) -> Tensor:
        """[N, D] to [N, S]."""
        return torch.bmm(self.directions[rows], direction[..., None])[..., 0]

    def vectors(self, rows: Tensor, columns: Tensor) -> Tensor:
        """[E, D]."""
        return self.directions[rows, columns] * self.values[rows, columns, None]


@dataclass(frozen=True)
class NeuronParts:
    """The hidden layer of an MLP: an identity dictionary, too large to be written out."""

    units: Tensor
    mlp: FrozenMLP

    @classmethod
    def of(cls, mlp: FrozenMLP) -> NeuronParts:
        """Units that are exactly 0 at a token are no parts there."""
        length, width = mlp.hidden.shape
        every = torch.arange(width, device=mlp.hidden.device).expand(length, -1)
        return cls(torch.where(mlp.hidden != 0, every, -1), mlp)

    @property
    def values(self) -> Tensor:
        """The hidden layer [T, M]."""
        return self.mlp.hidden

    def per_unit(self, direction: Tensor) -> Tensor:
        """[N, T, D] to [N, T, M]."""
        return through(self.mlp.post, direction, ALL)[0] @ self.mlp.out_weight

    def per_unit_at(self, direction: Tensor, rows: Tensor) -> Tensor:
        """[N, D] to [N, M]."""
        return through(self.mlp.post, direction, rows)[0] @ self.mlp.out_weight

    def vectors(self, rows: Tensor, columns: Tensor) -> Tensor:
        """[E, D]."""
        out = self.mlp.out_weight.T[columns] * self.values[rows, columns, None]
        return out if self.mlp.post is None else self.mlp.post.apply(out, rows)
