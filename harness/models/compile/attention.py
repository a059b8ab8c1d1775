"""Heads that compute an aggregate over a select, or a selector width.

Scores are built from products of one-hot keys and queries, `hardness` h nats apart:
                       selected keys     BOS     all others
    aggregate          2h                h       0
    … of the latest    (n+1)h + i·h      n·h     i·h        i: index of the key, n: longest prompt
    selector width     2h                2h      0
Softmax then attends to exactly what is selected (errors are below n·e^-h). An aggregate that
selects nothing attends to BOS, which has no values; a query at BOS does, too. In a selector width
BOS counts as one more key, so that the attention to it is 1 / (1 + width).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.datasets.program import (
    INDICES,
    TOKENS,
    Aggregate,
    Program,
    Select,
    SelectorWidth,
)
from harness.models.compile.basis import BOS, ONE, Basis, share_of

Purpose = Literal["program", "default"]


@dataclass(frozen=True)
class Read:
    """A reader's use of a variable: `part` is q, k, v or mlp.

    `default`: it only says where to look when nothing is selected.
    """

    part: Literal["q", "k", "v", "mlp"]
    variable: str
    purpose: Purpose = "program"


@dataclass(frozen=True)
class Head:
    """Maps of one head, float64: query, key [D, Q], value [D, V], out [V, D].

    Scores are query·key, without the division by √K that attention does.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    reads: tuple[Read, ...]

    @property
    def width(self) -> int:
        """The head width K that this head needs."""
        return max(self.query.shape[1], self.value.shape[1])


def aggregate_head(
    program: Program, basis: Basis, name: str, step: Aggregate, hardness: float
) -> Head:
    """The head that writes an aggregate."""
    scores = _Scores(basis, step.select)
    rank = program.longest if step.select.latest else 1
    scores.select(step.select, hardness * (rank + 1))
    if step.select.latest:
        scores.prefer_late(hardness)
    scores.attend_to_bos(hardness * rank, "default")
    source, target = basis.dimensions(step.of), basis.dimensions(name)
    value, out = _copy(basis, list(source), list(target))
    return scores.head(value, out, step.of)


def width_head(basis: Basis, name: str, step: SelectorWidth, hardness: float) -> Head:
    """The head that writes 1 / (1 + width).

    Where everything is always selected, all scores are 0 and nothing is read.
    """
    scores = _Scores(basis, step.select)
    if not _always(step.select, basis):
        scores.select(step.select, 2 * hardness)
        scores.attend_to_bos(2 * hardness, "program")
    value, out = _copy(basis, [basis.bos], [basis.dimension(share_of(name))])
    return scores.head(value, out, BOS)


class _Scores:
    """Query and key maps, one column of both for each term of the score."""

    def __init__(self, basis: Basis, select: Select) -> None:
        self.basis = basis
        self.query: list[Tensor] = []
        self.key: list[Tensor] = []
        self.reads: list[Read] = []

    def select(self, select: Select, score: float) -> None:
        """Add `score` where the predicate holds: a column for every value of the key."""
        basis = self.basis
        queries = basis.domains[select.queries].values or ()
        for key in basis.domains[select.keys].values or ():
            chosen = [query for query in queries if select.holds(key, query)]
            weights = {basis.dimension(select.queries, query): score for query in chosen}
            self._add(weights, {basis.dimension(select.keys, key): 1.0})
        self.reads += [Read("q", select.queries), Read("k", select.keys)]

    def prefer_late(self, step: float) -> None:
        """Add `step` for every index of the key, whatever the query."""
        basis = self.basis
        places = enumerate(basis.dimensions(INDICES))
        self._add({basis.one: step}, {place: float(index) for index, place in places})
        self.reads += [Read("q", ONE), Read("k", INDICES)]

    def attend_to_bos(self, score: float, purpose: Purpose) -> None:
        """Add `score` to the key at BOS, whatever the query, also at BOS."""
        basis = self.basis
        self._add({basis.one: score, basis.bos: score}, {basis.bos: 1.0})
        self.reads += [Read("q", ONE, purpose), Read("k", BOS, purpose)]

    def head(self, value: Tensor, out: Tensor, gathered: str) -> Head:
        """The head with these scores; `gathered` is the variable it mixes."""
        empty = torch.zeros(self.basis.width, 0, dtype=torch.float64)
        query = torch.stack(self.query, 1) if self.query else empty
        key = torch.stack(self.key, 1) if self.key else empty
        return Head(query, key, value, out, (*self.reads, Read("v", gathered)))

    def _add(self, query: dict[int, float], key: dict[int, float]) -> None:
        self.query.append(vector(self.basis, query))
        self.key.append(vector(self.basis, key))


def vector(basis: Basis, amounts: dict[int, float]) -> Tensor:
    """A stream vector [D] with these amounts."""
    stream = torch.zeros(basis.width, dtype=torch.float64)
    for dimension, amount in amounts.items():
        stream[dimension] = amount
    return stream


def _copy(basis: Basis, source: list[int], target: list[int]) -> tuple[Tensor, Tensor]:
    """Value and output maps that move the dimensions `source` to `target`."""
    same = torch.eye(basis.width, dtype=torch.float64)
    return same[:, source], same[target]


def _always(select: Select, basis: Basis) -> bool:
    """Whether every key is selected by every query, both always having a value."""
    if not set(select.inputs) <= {TOKENS, INDICES}:
        return False
    keys, queries = (basis.domains[name].values or () for name in select.inputs)
    return all(select.holds(key, query) for key in keys for query in queries)
