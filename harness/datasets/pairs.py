"""What every task gives: prompt pairs to measure on and batches to train on.

A pair is a clean prompt and its corrupted twin of equal token length, the positions where
answers are read, and the token ids that are right and wrong there. Nothing here knows how
the prompts were made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.datasets.classes import classes_of
from harness.datasets.tokenizers import Tokenizer

Ints = NDArray[np.int64]
Ids = NDArray[np.signedinteger[Any]]
Objective = Literal["next_token", "answer"]

_SHOWN = 6  # lengths in a message
NO_TARGET = -100  # value of `TrainingBatch.targets` where nothing is trained
_PADDING = {"positions": -1, "good": -1, "bad": -1}  # of the other arrays: 0
_DIGEST_ROWS = 1 << 12


@dataclass(frozen=True)
class PromptPairs:
    """n prompt pairs; all arrays are signed integers, narrow ones where there can be many pairs.

    `clean`, `corrupted` [n, T]: token ids, right padded with 0 up to the longest prompt.
    `lengths` [n]: tokens of each prompt (both twins have the same).
    `positions` [n, P]: where answers are read (-1 = unused): the logits AT this position
    predict the answer.
    `good` [n, P, G], `bad` [n, P, B]: answer token ids, padded with -1. `good` holds every
    correct answer, `bad` those to contrast with.
    """

    clean: Ids
    corrupted: Ids
    lengths: Ids
    positions: Ids
    good: Ids
    bad: Ids

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._arrays().values())

    def take(self, indices: Any) -> PromptPairs:
        """Return the pairs at `indices` (integers, booleans or a slice), in that order."""
        return replace(self, **{name: array[indices] for name, array in self._arrays().items()})

    def narrowed(self) -> PromptPairs:
        """Return the same pairs, each array in the narrowest integers that hold its values.

        Memory of many pairs is that of their token ids: two bytes instead of eight each, where
        the vocabulary has some hundreds of tokens.
        """
        return replace(self, **{name: _narrow(array) for name, array in self._arrays().items()})

    def cuts(self, size: int) -> list[Ids]:
        """Return the indices of buckets: at most `size` pairs of one length, shortest first."""
        if size < 1:
            raise ValueError(f"bucket size must be at least 1, not {size}")
        parts: list[Ids] = []
        for length in np.unique(self.lengths):
            members = _narrow(np.flatnonzero(self.lengths == length))
            parts += [members[start : start + size] for start in range(0, len(members), size)]
        return parts

    def unpadded(self, indices: Ids) -> PromptPairs:
        """Return the pairs at `indices`, which all have one length, without any padding."""
        chosen = self.take(indices)
        length = int(chosen.lengths[0])
        clean, corrupted = chosen.clean[:, :length], chosen.corrupted[:, :length]
        return replace(chosen, clean=clean, corrupted=corrupted)

    def buckets(self, size: int) -> Iterator[tuple[Ids, PromptPairs]]:
        """Yield (indices, pairs) of at most `size` pairs of one length, without any padding."""
        for indices in self.cuts(size):
            yield indices, self.unpadded(indices)

    def digest(self) -> str:
        """Return the sha256 (hex) of names, shapes and contents, the same on every platform.

        How wide the integers are makes no difference.
        """
        total = hashlib.sha256()
        for name, array in self._arrays().items():
            total.update(f"{name}{array.shape}".encode())
            for start in range(0, len(array), _DIGEST_ROWS):
                total.update(array[start : start + _DIGEST_ROWS].astype("<i8").tobytes())
        return total.hexdigest()

    def _arrays(self) -> dict[str, Ids]:
        return {field.name: getattr(self, field.name) for field in fields(PromptPairs)}


def join_pairs(parts: Sequence[PromptPairs]) -> PromptPairs:
    """Return the pairs of all parts, in order; narrower arrays are padded to the widest."""
    names = [field.name for field in fields(PromptPairs)]
    return PromptPairs(
        *(
            _stacked([getattr(part, name) for part in parts], _PADDING.get(name, 0))
            for name in names
        )
    )


def _stacked(arrays: Sequence[Ids], fill: int) -> Ids:
    """Return arrays [n_i, ...] below each other, padded with `fill` where one is smaller."""
    shape = np.max([array.shape for array in arrays], axis=0)
    shape[0] = sum(len(array) for array in arrays)
    out: Ids = np.full(shape, fill, dtype=np.result_type(*arrays))
    start = 0
    for array in arrays:
        place = (slice(start, start + len(array)), *(slice(size) for size in array.shape[1:]))
        out[place] = array
        start += len(array)
    return out


def _narrow(array: Ids) -> Ids:
    low, high = int(array.min(initial=-1)), int(array.max(initial=0))
    return array.astype(np.result_type(np.min_scalar_type(low), np.min_scalar_type(-high - 1)))


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


def ablation_problem(ablation: str, discovery: PromptPairs, test: PromptPairs) -> str | None:
    """Why prompts have no counterfactual under an ablation, for their lengths; None if they have.

    `resample` takes another prompt of the same length, `mean_positional` a mean over discovery
    prompts at each position.
    """
    if ablation == "resample":
        for name, pairs in (("discovery", discovery), ("test", test)):
            lengths, counts = np.unique(pairs.lengths, return_counts=True)
            if alone := [int(length) for length in lengths[counts == 1]]:
                shown = ", ".join(map(str, alone[:_SHOWN]))
                return (
                    f"'resample' needs two prompts of each length, and of the {name} prompts only "
                    f"one has {shown} tokens; raise the number of pairs or use prompts of equal "
                    "length"
                )
    longest = [int(pairs.lengths.max(initial=0)) for pairs in (discovery, test)]
    if ablation == "mean_positional" and longest[0] < longest[1]:
        return (
            f"'mean_positional' has no mean for position {longest[1] - 1}: test prompts have up to "
            f"{longest[1]} tokens, discovery prompts {longest[0]}; raise the number of discovery "
            "pairs"
        )
    return None


def read_too_early(pairs: PromptPairs) -> bool:
    """Whether all twins agree up to the last token that is read: a causal model cannot tell."""
    columns = np.arange(pairs.clean.shape[1])
    before = columns <= pairs.positions.max(axis=1)[:, None]
    return not ((pairs.clean != pairs.corrupted) & before).any()


def unfit(taught: TaskData, asked: TaskData) -> str | None:
    """Why a model of one task cannot be given prompts of another; None if it can."""
    one, other = taught.tokenizer, asked.tokenizer
    if one.tokens != other.tokens or one.bos != other.bos:
        return (
            "their tokens are not the same; give both the same tokenizer and words (kind words: a "
            "vocabulary is that of the task's own words)"
        )
    if classes_of(taught) != classes_of(asked):
        return "their `answers` are not the same; a model answers in one list of classes, or tokens"
    if asked.longest > taught.longest:
        return f"its prompts have up to {asked.longest} tokens, the model's up to {taught.longest}"
    return None


def padded(rows: list[list[int]], fill: int, width: int = 1) -> Ints:
    """Return rows of unequal length as one int64 [n, max(longest, width)] array."""
    width = max([width, *(len(row) for row in rows)])
    out = np.full((len(rows), width), fill, dtype=np.int64)
    for index, row in enumerate(rows):
        out[index, : len(row)] = row
    return out


def next_token_targets(
    tokens: Ints, lengths: Ints, answers: Ints, positions: Ints | None = None
) -> Ints:
    """Return the targets [B, T] that predict every next token, then `answers` [B] at the end.

    With `positions` [B, P] (-1 = unused), `answers` [B, P] are due there instead.
    """
    targets = np.full_like(tokens, NO_TARGET)
    targets[:, :-1] = tokens[:, 1:]
    columns = np.arange(tokens.shape[1])
    targets[columns >= lengths[:, None] - 1] = NO_TARGET
    row, column, place = _places(lengths, positions)
    targets[row, column] = answers.reshape(len(tokens), -1)[row, place]
    return targets


def answer_batch(
    tokens: Ints, lengths: Ints, good: Ints, vocabulary: int, positions: Ints | None = None
) -> TrainingBatch:
    """Return a batch that trains the last token on its answers [n, G], -1 padded.

    With `positions` [n, P] (-1 = unused), answers [n, P, G] are trained there instead. Where
    prompts have several good answers, the targets are soft.
    """
    targets = np.full_like(tokens, NO_TARGET)
    row, column, place = _places(lengths, positions)
    answers = good.reshape(len(good), -1, good.shape[-1])[row, place]
    targets[row, column] = answers[:, 0]
    if good.shape[-1] == 1:
        return TrainingBatch(tokens, lengths, targets)
    allowed = np.zeros((*tokens.shape, vocabulary), dtype=np.bool_)
    one, choice = np.nonzero(answers >= 0)
    allowed[row[one], column[one], answers[one, choice]] = True
    return TrainingBatch(tokens, lengths, targets, allowed)


def _places(lengths: Ints, positions: Ints | None) -> tuple[Ints, Ints, Ints]:
    """Return row, token position and place among the row's answers, of every answer."""
    at = lengths[:, None] - 1 if positions is None else positions
    row, place = np.nonzero(at >= 0)
    return row, at[row, place], place


def pick_answers(points: NDArray[np.float64], good: Ints) -> Ints:
    """Return one good answer of each row [..., G] (-1 padded); points in [0, 1) choose it."""
    pick = (points * (good >= 0).sum(axis=-1)).astype(np.int64)
    chosen: Ints = np.take_along_axis(good, pick[..., None], axis=-1)[..., 0]
    return chosen
