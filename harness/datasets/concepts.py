"""What is true at each token of a prompt, in a task's own words: what features are labelled by.

A source of prompts brings its own concepts by having the methods of `ConceptSource`. They come in
families, such as `empty` with a concept for each cell of a board.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.datasets.pairs import Ints, TaskData
from harness.datasets.stream import StreamData
from harness.errors import HarnessError

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class ConceptFamily:
    """Concepts of one kind. `cells`: where each lies on the board, if there is one.

    `board`: its concepts say together what the position is, and features can be asked to rebuild
    it. `opposite`: the family that its concepts turn into from one token to the next, as players
    alternate; `changed_by`: the family that is true of a cell where that was overturned. `outputs`:
    the model's output that each concept is about; `depends_on`: of each concept the cells that
    decide it by the task's rules.
    """

    name: str
    concepts: tuple[str, ...]
    cells: tuple[int, ...] | None = None
    board: bool = False
    opposite: str | None = None
    changed_by: str | None = None
    outputs: tuple[int, ...] | None = None
    depends_on: tuple[tuple[int, ...], ...] | None = None


@runtime_checkable
class ConceptSource(Protocol):
    """A source of prompts that knows what is true after each token."""

    @property
    def concept_families(self) -> tuple[ConceptFamily, ...]:
        """The families in order; their concepts one after the other are the columns."""
        ...

    @property
    def board_size(self) -> int | None:
        """Cells along an edge of the board that `cells` count from the upper left; None without."""
        ...

    def concepts(self, tokens: Ints, lengths: Ints) -> Bools:
        """What is true after each token of prompts [n, T]: [n, T, C], False beyond their end."""
        ...


def concept_source(data: TaskData) -> ConceptSource:
    """The source behind a task's data; `HarnessError` for a task without concepts."""
    source = data.source if isinstance(data, StreamData) else data
    if isinstance(source, ConceptSource):
        return source
    raise HarnessError(
        "the task has no concepts to label features by; its generator can bring them "
        "(`harness.datasets.concepts.ConceptSource`)"
    )


def concept_names(families: tuple[ConceptFamily, ...]) -> list[str]:
    """Names of all columns."""
    return [name for family in families for name in family.concepts]


def columns_of(families: tuple[ConceptFamily, ...]) -> dict[str, slice]:
    """The columns of each family."""
    columns, start = {}, 0
    for family in families:
        columns[family.name] = slice(start, start + len(family.concepts))
        start += len(family.concepts)
    return columns
