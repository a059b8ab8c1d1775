"""Rows with one clean prompt: the first is used, rows that contradict each other are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.datasets.pairs import Ids, PromptPairs
from harness.datasets.splits import Hashes, hash_rows

_SHOWN = 3


Answer = tuple[int, int]  # the position where it is read, its token


@dataclass
class _Said:
    """What the rows of one clean prompt say: each answer, and the place of the row."""

    place: str
    good: dict[Answer, str] = field(default_factory=dict)
    bad: dict[Answer, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Repeats:
    """`left_out`: (place, place of the first row with that clean prompt), of every later row."""

    left_out: tuple[tuple[str, str], ...]
    contradictions: tuple[str, ...]
    total: int

    def note(self, shown: str) -> str | None:
        """How many rows of a file are not used, and why; None if all are."""
        if not self.left_out:
            return None
        pairs = [f"{place} as {first}" for place, first in self.left_out[:_SHOWN]]
        more = ", …" if len(self.left_out) > _SHOWN else ""
        return (
            f"{shown}: {len(self.left_out)} of {self.total} rows are left out, for their clean "
            f"prompt stands in an earlier row ({'; '.join(pairs)}{more})"
        )


def row_keys(pairs: PromptPairs) -> Hashes:
    """A hash of the clean prompt of every row and of where it is read."""
    places = pairs.positions.shape[1]
    return hash_rows(np.hstack([pairs.positions, pairs.clean]), pairs.lengths + places, 0)


def repeats_of(places: Sequence[str], pairs: PromptPairs, tokens: Sequence[str]) -> Repeats:
    """Find rows whose clean prompt, read alike, came before.

    `places`: of the pairs, for messages; `tokens`: the texts of the answers' ids.
    Two rows contradict each other if an answer is good in one and bad in the other.
    """
    said: dict[int, _Said] = {}
    left_out, contradictions = [], []
    keys = row_keys(pairs).tolist()
    for row, (key, place) in enumerate(zip(keys, places, strict=True)):
        group = said.get(key)
        if group is None:
            group = said[key] = _Said(place)
        else:
            left_out.append((place, group.place))
        good, bad = (_answers(pairs.positions[row], ids[row]) for ids in (pairs.good, pairs.bad))
        opposed = (
            f"{place}: {tokens[answer[1]]!r} is a {word} answer here and a {other} one in "
            f"{earlier[answer]}, which has the same clean prompt"
            for word, other, answers, earlier in (
                ("good", "bad", good, group.bad),
                ("bad", "good", bad, group.good),
            )
            for answer in answers
            if answer in earlier
        )
        contradictions += [text for text in [next(opposed, None)] if text]
        for answers, earlier in ((good, group.good), (bad, group.bad)):
            for answer in answers:
                earlier.setdefault(answer, place)
    return Repeats(tuple(left_out), tuple(contradictions), len(places))


def _answers(positions: Ids, ids: Ids) -> list[Answer]:
    """The answers [P, G] of a row that are read at positions [P]."""
    return [
        (int(at), token)
        for at, row in zip(positions.tolist(), ids.tolist(), strict=True)
        for token in row
        if token >= 0
    ]
