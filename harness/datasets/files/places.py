"""A row as an example: its texts, where its answers are read, and these as arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from harness.datasets.files.cells import shown_value
from harness.datasets.files.limits import MOST_TOKENS
from harness.datasets.pairs import Ints, PromptPairs, padded
from harness.datasets.splits import hash_rows
from harness.spec.yaml.strict_json import read_json


class Answered(NamedTuple):
    """A place where an answer is read, and the texts of the good and bad ones there."""

    at: int
    good: tuple[str, ...]
    bad: tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """One row as text.

    `at`: the token where the answer is read, negative from the end; `further`: the same of other
    answers of the row, with their good and bad texts.
    """

    place: str
    clean: str
    corrupted: str
    good: tuple[str, ...]
    bad: tuple[str, ...]
    split: str | None
    at: int = -1
    further: tuple[Answered, ...] = ()

    @property
    def answered(self) -> tuple[Answered, ...]:
        """Every place of the row with its answers."""
        return (Answered(self.at, self.good, self.bad), *self.further)

    @property
    def answer_texts(self) -> list[str]:
        """All answers."""
        return [text for part in self.answered for text in (*part.good, *part.bad)]


_NUMBER = r"\s*-?\d{1,9}\s*"
_NUMBERS = re.compile(rf"{_NUMBER}|\[{_NUMBER}(,{_NUMBER})*\]")


def whole_numbers(value: Any, column: str) -> int | list[int]:
    """A position, or a list of them; in CSV all values are texts: `3`, `[0, 3]`."""
    if isinstance(value, str) and _NUMBERS.fullmatch(value):
        numbers = [int(one) for one in re.findall(r"-?\d+", value)]
        return numbers if value.lstrip().startswith("[") else numbers[0]
    if type(value) is int:
        return value
    if isinstance(value, list) and value and all(type(one) is int for one in value):
        return list(value)
    raise ValueError(
        f"column {column!r} must be a whole number or a list of them, not {shown_value(value)}"
    )


def one_each(value: Any, column: str, count: int) -> list[Any]:
    """The cells of answers at each of several positions; in CSV the column is a JSON list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = read_json(value)
        except ValueError as error:
            raise ValueError(f"column {column!r} is not a JSON list: {error}") from error
    if not isinstance(value, list) or len(value) != count:
        raise ValueError(
            f"column {column!r} must list one answer for each of {count} positions, not "
            f"{shown_value(value)}"
        )
    return value


def misplaced(places: Sequence[int], length: int) -> Iterator[str]:
    """What is wrong with the places where a prompt of some tokens is read."""
    for at in places:
        if not -length <= at < length:
            yield (
                f"position {at} is not in the prompt, whose {length} tokens are 0 … {length - 1}, "
                f"or -{length} … -1"
            )
    if length and len({at % length for at in places}) < len(places):
        yield f"positions {list(places)} name a token twice"


def counted_from_start(places: Sequence[Sequence[int]], lengths: Ints) -> Ints:
    """Return positions [n, P], -1 where a row has fewer."""
    rows = [[at % int(length) for at in row] for row, length in zip(places, lengths, strict=True)]
    return padded(rows, -1)


def stacked(answers: Sequence[Sequence[Sequence[int]]]) -> Ints:
    """Return answers of rows and places as one array [n, P, G], padded with -1."""
    places = max(len(row) for row in answers)
    width = max(len(texts) for row in answers for texts in row)
    out = np.full((len(answers), places, width), -1, dtype=np.int64)
    for index, row in enumerate(answers):
        for place, ids in enumerate(row):
            out[index, place, : len(ids)] = ids
    return out


def too_wide(
    examples: Sequence[Example],
    prompts: Sequence[Sequence[int]],
    sides: Sequence[Sequence[Sequence[Sequence[int]]]],
) -> list[str]:
    """Why rows cannot be arrays: one is so long that all others padded to it fill the memory.

    `sides`: good and bad answers, by row and place.
    """
    if not prompts:
        return []
    n, rows = len(prompts), range(len(prompts))
    problems = []
    longest = max(rows, key=lambda at: len(prompts[at]))
    if n * len(prompts[longest]) > MOST_TOKENS:
        problems.append((longest, f"{len(prompts[longest]):,} tokens, and all {n:,} prompts"))
    for answers in sides:
        width = max(len(ids) for row in answers for ids in row)
        most = max(rows, key=lambda at: len(answers[at]) * max(map(len, answers[at])))
        if n * max(map(len, answers)) * width > MOST_TOKENS:
            count = sum(map(len, answers[most]))
            problems.append((most, f"{count:,} answers, and those of all {n:,} rows"))
    return [
        f"{examples[at].place}: {text} padded to so many have more than {MOST_TOKENS:,}; leave "
        "out the longest rows"
        for at, text in problems
    ]


def in_two_splits(examples: Sequence[Example], pairs: PromptPairs) -> list[str]:
    """Return clean prompts that the split column puts into two splits."""
    seen: dict[int, Example] = {}
    problems = []
    for key, one in zip(hash_rows(pairs.clean, pairs.lengths, 0).tolist(), examples, strict=True):
        first = seen.setdefault(key, one)
        if first.split != one.split:
            problems.append(
                f"{one.place}: the clean prompt of split {one.split!r} is also in "
                f"{first.split!r} ({first.place}); splits must not share prompts"
            )
    return problems
