"""What every task gives: prompt pairs to measure on and batches to train on.

A pair is a clean prompt and its corrupted twin of equal token length, the positions where
answers are read, and the token ids that are right and wrong there. Nothing here knows how
the prompts were made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.datasets.tokenizer import Tokenizer

Ints = NDArray[np.int64]
Objective = Literal["next_token", "answer"]

_SHOWN = 6  # lengths in a message
NO_TARGET = -100  # value of `TrainingBatch.targets` where nothing is trained


@dataclass(frozen=True)
class PromptPairs:
    """n prompt pairs; all arrays are int64.

    `clean`, `corrupted` [n, T]: token ids, right padded with 0 up to the longest prompt.
    `lengths` [n]: tokens of each prompt (both twins have the same).
    `positions` [n, P]: where answers are read (-1 = unused): the logits AT this position
    predict the answer.
    `good` [n, P, G], `bad` [n, P, B]: answer token ids, padded with -1. `good` holds every
    correct answer, `bad` those to contrast with.
    """

    clean: Ints
    corrupted: Ints
    lengths: Ints
    positions: Ints
    good: Ints
    bad: Ints

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, indices: Any) -> PromptPairs:
        """Return the pairs at `indices` (integers, booleans or a slice), in that order."""
        return PromptPairs(*(getattr(self, field.name)[indices] for field in fields(self)))

    def buckets(self, size: int) -> Iterator[tuple[Ints, PromptPairs]]:
        """Yield (indices, pairs) of at most `size` pairs of one length, without any padding."""
        if size < 1:
            raise ValueError(f"bucket size must be at least 1, not {size}")
        for length in np.unique(self.lengths):
            members = np.flatnonzero(self.lengths == length)
            for start in range(0, len(members), size):
                indices = members[start : start + size]
                chosen = self.take(indices)
                yield (
                    indices,
                    PromptPairs(
                        chosen.clean[:, :length],
                        chosen.corrupted[:, :length],
                        chosen.lengths,
                        chosen.positions,
                        chosen.good,
                        chosen.bad,
                    ),
                )

    def digest(self) -> str:
        """Return the sha256 (hex) of names, shapes and contents, the same on every platform."""
        total = hashlib.sha256()
        for field in fields(self):
            array = np.ascontiguousarray(getattr(self, field.name), dtype="<i8")
            total.update(f"{field.name}{array.shape}".encode())
            total.update(array.tobytes())
        return total.hexdigest()


@dataclass(frozen=True)
class TrainingBatch:
    """B clean prompts to train on.

    `tokens` int64 [B, T], right padded with 0; `lengths` int64 [B]. `targets` int64 [B, T]:
    the token to predict at each position, `NO_TARGET` where nothing is trained. `allowed`
    bool [B, T, V], if given, makes the targets soft: uniform over the allowed tokens of every
    position whose target is not `NO_TARGET`.
    """

    tokens: Ints
    lengths: Ints
    targets: Ints
    allowed: NDArray[np.bool_] | None = None


class TaskData(Protocol):
    """An opened task: reproducible pairs and training batches in disjoint splits."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Vocabulary of the task."""
        ...

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt, BOS included."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """ "train", "validation", "test", then the splits that the task adds."""
        ...

    def pairs(self, split: str, n: int, seed: int, *, at_most: bool = False) -> PromptPairs:
        """Return n pairs of `split` with distinct clean prompts; equal arguments, equal pairs.

        With `at_most`, fewer where the split has fewer. Raises HarnessError if the split is
        unknown, has no prompts, or (without `at_most`) has fewer than n distinct ones.
        """
        ...

    def training_batch(
        self, objective: Objective, size: int, step: int, seed: int
    ) -> TrainingBatch:
        """Return `size` clean prompts of split train; equal arguments, equal batch."""
        ...


def mixed_lengths(*drawn: PromptPairs) -> str | None:
    """Why positions cannot have edges of their own: prompts of several lengths. None if of one."""
    lengths = sorted({int(length) for pairs in drawn for length in np.unique(pairs.lengths)})
    if len(lengths) <= 1:
        return None
    shown = ", ".join(str(length) for length in lengths[:_SHOWN])
    more = f" and {len(lengths) - _SHOWN} other numbers of" if len(lengths) > _SHOWN else ""
    return (
        f"per_token needs prompts of one length, and these have {shown}{more} tokens; choose "
        "`all`, or make all prompts equally long (a single number in `lengths`; templates and "
        "words of as many tokens; rows of one length)"
    )


def padded(rows: list[list[int]], fill: int, width: int = 1) -> Ints:
    """Return rows of unequal length as one int64 [n, max(longest, width)] array."""
    width = max([width, *(len(row) for row in rows)])
    out = np.full((len(rows), width), fill, dtype=np.int64)
    for index, row in enumerate(rows):
        out[index, : len(row)] = row
    return out


def next_token_targets(tokens: Ints, lengths: Ints, answers: Ints) -> Ints:
    """Return the targets [B, T] that predict every next token, then `answers` [B] at the end."""
    targets = np.full_like(tokens, NO_TARGET)
    targets[:, :-1] = tokens[:, 1:]
    columns = np.arange(tokens.shape[1])
    targets[columns >= lengths[:, None]] = NO_TARGET
    targets[np.arange(len(tokens)), lengths - 1] = answers
    return targets


def answer_batch(tokens: Ints, lengths: Ints, good: Ints, vocabulary: int) -> TrainingBatch:
    """Return a batch that trains the last token on its answers [n, G], -1 padded.

    Where prompts have several good answers, the targets are soft.
    """
    targets = np.full_like(tokens, NO_TARGET)
    targets[np.arange(len(tokens)), lengths - 1] = good[:, 0]
    if good.shape[1] == 1:
        return TrainingBatch(tokens, lengths, targets)
    allowed = np.zeros((*tokens.shape, vocabulary), dtype=np.bool_)
    row, column = np.nonzero(good >= 0)
    allowed[row, lengths[row] - 1, good[row, column]] = True
    return TrainingBatch(tokens, lengths, targets, allowed)


def pick_answers(points: NDArray[np.float64], good: Ints) -> Ints:
    """Return one good answer [n] of each row [n, G] (-1 padded); points in [0, 1) choose it."""
    pick = (points * (good >= 0).sum(axis=1)).astype(np.int64)
    chosen: Ints = good[np.arange(len(good)), pick]
    return chosen
