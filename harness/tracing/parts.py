"""Parts: vectors that sum to what a module writes, at every token.

Shapes: T tokens, S columns of parts, D = d_model, N directions asked for at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from harness.tracing.frozen.mlps import FrozenMLP, through
from harness.tracing.frozen.norms import ALL, Rows

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

    def total(self) -> Tensor:
        """Their sum, [T, D]."""
        ...

    def by_unit(self, numbers: Tensor, prompts: int, size: int) -> Tensor:
        """Numbers [T, S] of parts, added up over the tokens of each prompt: [B, size] by unit."""
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

    def total(self) -> Tensor:
        """[T, D]."""
        return torch.bmm(self.values[:, None], self.directions)[:, 0]

    def by_unit(self, numbers: Tensor, prompts: int, size: int) -> Tensor:
        """[T, S] to [B, size]."""
        starts = torch.arange(prompts, device=numbers.device).repeat_interleave(
            len(numbers) // prompts
        )
        places = (self.units + starts[:, None] * size)[self.units >= 0]
        out = numbers.new_zeros(prompts * size)
        return out.index_add_(0, places, numbers[self.units >= 0]).view(prompts, size)


@dataclass(frozen=True)
class FeatureParts:
    """All features of a dictionary, active or not: where there are many tokens.

    `code` [T, F]. `mlp`: the module whose hidden layer is coded; None where it is the output.
    """

    code: Tensor
    decoder: Tensor  # [F, width]
    mlp: FrozenMLP | None

    @property
    def units(self) -> Tensor:
        """A column is a feature, where it is active: [T, F]."""
        every = torch.arange(self.code.shape[1], device=self.code.device)
        return torch.where(self.code > 0, every, -1)

    @property
    def values(self) -> Tensor:
        """The code [T, F]."""
        return self.code

    def per_unit(self, direction: Tensor) -> Tensor:
        """[N, T, D] to [N, T, F]."""
        return self._inside(direction, ALL) @ self.decoder.T

    def per_unit_at(self, direction: Tensor, rows: Tensor) -> Tensor:
        """[N, D] to [N, F]."""
        return self._inside(direction, rows) @ self.decoder.T

    def _inside(self, direction: Tensor, rows: Rows) -> Tensor:
        if self.mlp is None:
            return direction
        return through(self.mlp.post, direction, rows)[0] @ self.mlp.out_weight

    def vectors(self, rows: Tensor, columns: Tensor) -> Tensor:
        """[E, D]."""
        return self._outside(self.decoder[columns] * self.code[rows, columns, None], rows)

    def total(self) -> Tensor:
        """[T, D]."""
        return self._outside(self.code @ self.decoder, ALL)

    def _outside(self, inner: Tensor, rows: Rows) -> Tensor:
        return inner if self.mlp is None else self.mlp.to_output(inner, rows)

    def by_unit(self, numbers: Tensor, prompts: int, size: int) -> Tensor:
        """[T, F] to [B, F]."""
        summed: Tensor = numbers.unflatten(0, (prompts, -1)).sum(1)
        return summed


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

    def total(self) -> Tensor:
        """[T, D]."""
        return self.mlp.to_output(self.values, ALL)

    def by_unit(self, numbers: Tensor, prompts: int, size: int) -> Tensor:
        """[T, M] to [B, M]."""
        summed: Tensor = numbers.unflatten(0, (prompts, -1)).sum(1)
        return summed
