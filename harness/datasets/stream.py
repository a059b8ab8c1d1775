"""Turns an endless source of random prompts into a task with disjoint splits.

A source draws rows and says how rows become pairs and training batches; the stream does
what is the same for all: seeding, keeping the rows of the wanted split, dropping duplicates.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.datasets.classes import Classes
from harness.datasets.pairs import Ints, Objective, PromptPairs, TrainingBatch, join_pairs
from harness.datasets.rows import Rows, first_of_each, join, prompt_keys, take
from harness.datasets.splits import Hashes, Shares
from harness.datasets.tokenizers import Asked, FileTokenizer, Tokenizer
from harness.datasets.tokenizers.continuation import Break, breaks
from harness.errors import HarnessError

PAIRS, TRAINING, WHOLE = 1, 2, 3  # keep the random streams of the uses apart
BLOCK = 16  # training steps drawn together
LARGEST_DRAW = 1 << 13
# Give up when this many draws in a row brought no new prompt of the split.
PATIENCE = 1 << 18


class PromptSource(Protocol):
    """An endless stream of random prompts."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Vocabulary of the prompts."""
        ...

    @property
    def longest(self) -> int:
        """Most tokens of a prompt, BOS included."""
        ...

    def draw(self, rng: np.random.Generator, n: int, split: str, paired: bool) -> Rows:
        """Return at most about n random rows; `paired` rows can be given to `pairs`.

        `split` is only a hint: rows of other splits are dropped by the stream.
        """
        ...

    def split_of(self, rows: Rows, shares: Shares) -> Ints:
        """Return the split number of every row; -1 = belongs to none."""
        ...

    def pairs(self, rows: Rows) -> PromptPairs:
        """Return the prompt pairs of rows drawn with `paired`."""
        ...

    def batch(self, rows: Rows, objective: Objective) -> TrainingBatch:
        """Return rows as a training batch."""
        ...


class TextSource(PromptSource, Protocol):
    """A source whose prompts are texts, for a `tokenizer.json`."""

    def continuations(self, rows: Rows, paired: bool) -> Iterable[Asked]:
        """Return what is asked in each row: every answer after every prompt.

        With `paired`: both answers, after both prompts; else the good ones after the clean prompt.
        """
        ...


class StreamData:
    """`TaskData` over a source. `classes`: what it answers in, if not tokens."""

    classes: Classes | None = None

    def __init__(self, source: PromptSource, shares: Shares) -> None:
        """Take the source and the splits; the seed of the shares is the data seed."""
        self.source = source
        self.tokenizer = source.tokenizer
        self.longest = source.longest
        self.splits = shares.names
        self.shares = shares
        self._block: tuple[tuple[int, int, int], Rows] | None = None

    def pairs(self, split: str, n: int, seed: int, *, at_most: bool = False) -> PromptPairs:
        """Return n pairs of `split` with distinct clean prompts (see `TaskData`)."""
        index = self.shares.index(split)
        rng = pair_rng(self.shares, split, seed)

        def draw(count: int) -> Rows:
            rows = self.source.draw(rng, count, split, paired=True)
            return take(rows, self.source.split_of(rows, self.shares) == index)

        drawn = distinct(draw, n, split, at_most=at_most)
        return join_pairs([self.checked_pairs(rows) for rows in drawn])

    def checked_pairs(self, rows: Rows) -> PromptPairs:
        """Return rows as pairs; HarnessError if an answer is not how its prompt goes on."""
        self._check(rows, paired=True)
        return self.source.pairs(rows).narrowed()

    def training_batch(
        self, objective: Objective, size: int, step: int, seed: int
    ) -> TrainingBatch:
        """Return `size` clean prompts of split train (see `TaskData`).

        Prompts are drawn for `BLOCK` consecutive steps at once, which costs little more than
        for one; the last block is kept. A batch stays a function of its arguments.
        """
        block, place = divmod(step, BLOCK)
        wanted = (size, block, seed)
        if self._block is None or self._block[0] != wanted:
            self._block = (wanted, self._training_rows(size * BLOCK, block, seed))
        rows = take(self._block[1], slice(place * size, (place + 1) * size))
        self._check(rows, paired=False)
        return self.source.batch(rows, objective)

    def sequences(self, split: str, n: int, seed: int) -> TrainingBatch | None:
        """Return n whole sequences of a split, with every right next token as `allowed`.

        None where the source does not know them all, such as a task with one answer at the end.
        Equal arguments give equal sequences.
        """
        index = self.shares.index(split)
        rng = np.random.default_rng([self.shares.seed, WHOLE, zlib.crc32(split.encode()), seed])
        parts: list[Rows] = []
        n_rows = drawn = 0
        while n_rows < n:
            count = min(LARGEST_DRAW, (n - n_rows) * 4 + 64)
            rows = self.source.draw(rng, count, split, paired=False)
            rows = take(rows, self.source.split_of(rows, self.shares) == index)
            if not parts and self.source.batch(rows, "answer").allowed is None:
                return None
            parts.append(rows)
            n_rows += len(rows["lengths"])
            drawn += count
            if drawn > PATIENCE and not n_rows:
                raise HarnessError(f"split {split!r} has no sequences")
        return self.source.batch(take(join(parts), slice(0, n)), "answer")

    def first_break(self, rows: Rows, paired: bool = True) -> Break | None:
        """Return the first answer that is not how its prompt goes on, if there is one."""
        if not isinstance(self.tokenizer, FileTokenizer) or not self.tokenizer.continues:
            return None
        asked = getattr(self.source, "continuations", None)
        if asked is None:
            raise HarnessError(
                f"{type(self.source).__name__} makes prompts for a tokenizer.json and does not say "
                "what is asked after them; add `continuations` (see `stream.TextSource`)"
            )
        return next(breaks(self.tokenizer, asked(rows, paired)), None)

    def _check(self, rows: Rows, paired: bool) -> None:
        if one := self.first_break(rows, paired):
            raise HarnessError(str(one))

    def _training_rows(self, size: int, block: int, seed: int) -> Rows:
        rng = training_rng(self.shares, seed, block)
        parts: list[Rows] = []
        n_rows = drawn = 0
        while n_rows < size:
            # The first draw expects the default share of train and some rejected rows.
            count = min(LARGEST_DRAW, (size - n_rows) * 4 // 3 + 16)
            rows = self.source.draw(rng, count, "train", paired=False)
            rows = take(rows, self.source.split_of(rows, self.shares) == 0)
            n_rows += len(rows["lengths"])
            drawn += count
            parts.append(rows)
            if drawn > PATIENCE and not n_rows:
                raise HarnessError("split 'train' has no prompts to train on")
        return take(join(parts), slice(0, size))


def distinct(draw: Callable[[int], Rows], n: int, split: str, *, at_most: bool) -> Iterator[Rows]:
    """Yield n rows with distinct prompts, in the parts in which they are drawn.

    Of the rows of earlier parts only 8 bytes each are kept. HarnessError if prompts run out (see
    `TaskData`).
    """
    if n < 1:
        raise HarnessError(f"at least one pair must be asked for, not {n}")
    seen: Hashes = np.zeros(0, dtype=np.uint64)  # ascending
    idle = 0
    count = n * 3 // 2 + 64
    while len(seen) < n:
        count = min(count, LARGEST_DRAW)
        rows = draw(count)
        first = first_of_each(rows)
        keys = prompt_keys(rows)[first]
        new = ~_among(keys, seen)
        first, keys = first[new][: n - len(seen)], keys[new][: n - len(seen)]
        idle = 0 if len(first) else idle + count
        if idle >= PATIENCE:
            if at_most and len(seen):
                return
            raise too_few(split, len(seen), n)
        keys.sort()
        seen = np.insert(seen, np.searchsorted(seen, keys), keys)
        if len(first):
            yield take(rows, first)
        count *= 2


def _among(keys: Hashes, ascending: Hashes) -> NDArray[np.bool_]:
    """Return which keys are among others: a search for each key, however many others there are."""
    if not len(ascending):
        return np.zeros(len(keys), dtype=np.bool_)
    places = np.searchsorted(ascending, keys).clip(max=len(ascending) - 1)
    is_member: NDArray[np.bool_] = ascending[places] == keys
    return is_member


def training_rng(shares: Shares, seed: int, part: int) -> np.random.Generator:
    """Return the generator that draws part number `part` of the training prompts."""
    return np.random.default_rng([shares.seed, TRAINING, seed, part])


def pair_rng(shares: Shares, split: str, seed: int) -> np.random.Generator:
    """Return the generator that draws the pairs of one split."""
    return np.random.default_rng([shares.seed, PAIRS, zlib.crc32(split.encode()), seed])


class TooFew(HarnessError):
    """A split has fewer distinct prompts than asked for."""


def too_few(split: str, available: int, wanted: int, counts: str = "") -> TooFew:
    """Return the error of a split with fewer distinct prompts than asked for.

    `counts`: how many there are in all, in brackets.
    """
    return TooFew(
        f"split {split!r} has only {available} distinct prompts, {wanted} were asked for{counts}; "
        "ask for fewer or give the task more words, lengths or a larger share (discovery pairs may "
        "come again: evaluation.discovery_repeats)"
    )
