"""What writes to the stream in a frozen run: the parts of its output, and what they read.

    leaf         token embeddings, positions: one part a token
    dictionary   features of a module's output, or of an MLP's hidden layer; bias and error
    neurons      units of an MLP's hidden layer, which an identity dictionary would give; bias
    heads        heads as wholes; bias
    module       an MLP as a whole; bias

Shapes: N targets, T tokens, S columns of parts, D = d_model. The last columns of a writer are its
`tail`, bias and error, which are not traced further.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from harness.tracing.parts import Explicit, PartKind, Parts


class Passed(NamedTuple):
    """What a writer passes down of directions [N, T, D] of its output.

    `influence` [N, T, S] of its parts, the direction of the stream that it reads [N, T, D], what
    constants on the way contribute [N], and the influence of parts that passed nothing on [N].
    """

    influence: Tensor
    stream: Tensor
    constant: Tensor
    cut: Tensor


class Expansion(NamedTuple):
    """What N parts of one writer read.

    `stream`: the direction of the stream in which a part's `value` [N] is linear, at the part's
    own token [N, D], or by head at every token [N, H, T, D]. `constant` [N] is the rest of it.
    """

    stream: Tensor
    constant: Tensor
    value: Tensor


class Reading(Protocol):
    """How the parts of a writer, but for its tail, depend on the stream that it reads."""

    def pull(
        self, direction: Tensor, per_unit: Tensor, kept: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Directions [N, T, D] of the output as those of the stream, and constants [N].

        `per_unit` [N, T, S]: a direction times one unit of each part. `kept` [N, T, S]: which
        parts pass anything on, all if None.
        """
        ...

    def expand(self, rows: Tensor, columns: Tensor, direction: Tensor) -> Expansion:
        """What the parts at tokens [N] and columns [N] read.

        `direction` [N, D]: that in which parts without an activity of their own are traced.
        """
        ...


@dataclass(frozen=True)
class StreamWriter:
    """A place that writes: `main` parts that may be traced on, and a `tail` that is not.

    `below`: how many writers come before the stream that it reads; 0 for leaves.
    """

    name: str
    kind: PartKind
    main: Parts
    below: int = 0
    reading: Reading | None = None
    tail: Explicit | None = None
    tail_kinds: tuple[PartKind, ...] = ()

    @property
    def columns(self) -> int:
        """S, those of the tail included."""
        return self.own + len(self.tail_kinds)

    @property
    def own(self) -> int:
        """Columns without the tail."""
        return self.main.values.shape[1]

    @cached_property
    def units(self) -> Tensor:
        """Units [T, S], -1 where a column has no part; 0 in the tail."""
        return self._with_tail(
            self.main.units, None if self.tail is None else torch.zeros_like(self.tail.units)
        )

    @cached_property
    def values(self) -> Tensor:
        """Activities [T, S]; 1 where that has no meaning."""
        return self._with_tail(self.main.values, None if self.tail is None else self.tail.values)

    def kind_of(self, column: int) -> PartKind:
        """What a column holds."""
        return self.kind if column < self.own else self.tail_kinds[column - self.own]

    def influence_at(self, direction: Tensor, rows: Tensor) -> Tensor:
        """Directions [N, D] times the parts at one token each: [N, S]."""
        own = self.main.per_unit_at(direction, rows) * self.main.values[rows]
        if self.tail is None:
            return own
        return torch.cat([own, self.tail.per_unit_at(direction, rows)], -1)

    def influence(self, direction: Tensor) -> Tensor:
        """Directions [N, T, D] times all parts: [N, T, S]."""
        return self._all(self.main.per_unit(direction) * self.main.values, direction)

    def vectors(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The parts at tokens [E] and columns [E]: [E, D]."""
        out = self.main.vectors(rows, columns.clamp(max=self.own - 1))
        if self.tail is None:
            return out
        rest = self.tail.vectors(rows, (columns - self.own).clamp(min=0))
        return torch.where((columns < self.own)[:, None], out, rest)

    def output(self) -> Tensor:
        """The sum of all parts, [T, D]."""
        own = self.main.total()
        return own if self.tail is None else own + self.tail.total()

    def back(self, direction: Tensor, above: float | None = None) -> Passed:
        """What passes down of directions [N, T, D] of the output.

        `above`: parts whose influence is not larger pass nothing on.
        """
        per_unit = self.main.per_unit(direction)
        own = per_unit * self.main.values
        cut = own.new_zeros(len(direction))
        influence = self._all(own, direction)
        if self.reading is None:
            return Passed(influence, torch.zeros_like(direction), cut, cut)
        kept = None
        if above is not None:
            kept = (own > above).to(own.dtype)
            cut = (own * (1 - kept)).sum((-1, -2))
        stream, constant = self.reading.pull(direction, per_unit, kept)
        return Passed(influence, stream, constant, cut)

    def _all(self, own: Tensor, direction: Tensor) -> Tensor:
        """Influences [N, T, S]: those of the main parts, and of the tail."""
        return own if self.tail is None else torch.cat([own, self.tail.per_unit(direction)], -1)

    @staticmethod
    def _with_tail(own: Tensor, tail: Tensor | None) -> Tensor:
        return own if tail is None else torch.cat([own, tail], -1)
