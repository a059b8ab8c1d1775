"""The strongest tokens of features in their sequences, which are drawn again to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.datasets.concepts import Bools
from harness.datasets.pairs import Ints, TaskData
from harness.interpretation.strongest import Strongest
from harness.interpretation.study import SeenTokens
from harness.interpretation.tokens import SEQUENCES, training_sequences

EXAMPLES = 6
"""Of each feature at most."""


@dataclass(frozen=True)
class TokenExample:
    """A token at which a feature is strong.

    `tokens` [position + 1]: ids of its sequence, up to and with it; `true` [C]: what is true there.
    """

    strength: float
    position: int
    tokens: Ints
    true: Bools


def examples_of(
    data: TaskData, seen: SeenTokens, wanted: Sequence[tuple[Strongest, int]], most: int = EXAMPLES
) -> list[list[TokenExample]]:
    """Of each feature its strongest tokens, strongest first, each of another sequence.

    Sequences stand for themselves by their strongest token, and those that are the same up to it
    count as one: a feature of openings would else show one opening again and again. At most `most`,
    and fewer where there are fewer. `seen` are tokens of `training_chunks` of the same data, and
    `wanted` features with what was strongest among them. Sequences are drawn again, for all
    features together.
    """
    ranks = [_first_of_sequences(seen, one.of(feature)[1]) for one, feature in wanted]
    tokens = [one.of(each)[1][at] for (one, each), at in zip(wanted, ranks, strict=True)]
    beginnings = _beginnings(data, seen, np.concatenate([np.zeros(0, np.int64), *tokens]))
    examples = []
    for (one, feature), at, places in zip(wanted, ranks, tokens, strict=True):
        distinct = _distinct([beginnings[token] for token in places.tolist()])[:most]
        strengths, true = one.of(feature)[0][at[distinct]], seen.at(places[distinct])
        shown = [beginnings[token] for token in places[distinct].tolist()]
        examples.append(
            [
                TokenExample(float(strength), len(each) - 1, each, there)
                for strength, each, there in zip(strengths, shown, true, strict=True)
            ]
        )
    return examples


def _distinct(beginnings: Sequence[Ints]) -> list[int]:
    """The places of those that are not the same as an earlier one."""
    places: dict[bytes, int] = {}
    for at, one in enumerate(beginnings):
        places.setdefault(one.tobytes(), at)
    return list(places.values())


def _first_of_sequences(seen: SeenTokens, tokens: NDArray[np.int64]) -> NDArray[np.intp]:
    """The places of those tokens [n] before which there is none of the same sequence, in order."""
    _, first = np.unique(seen.sequences(tokens), return_index=True)
    return np.sort(first)


def _beginnings(data: TaskData, seen: SeenTokens, tokens: NDArray[np.int64]) -> dict[int, Ints]:
    """By token its sequence up to and with it. Steps that hold none of them are not drawn."""
    tokens = np.unique(tokens)
    steps, rows = np.divmod(seen.sequences(tokens), SEQUENCES)
    beginnings = {}
    for step in np.unique(steps).tolist():
        drawn = training_sequences(data, step).tokens
        for at in np.flatnonzero(steps == step).tolist():
            end = int(seen.positions[tokens[at]]) + 1
            # A copy, since a part would keep all sequences of the step in memory.
            beginnings[int(tokens[at])] = drawn[rows[at], :end].copy()
    return beginnings
