"""Generator `arithmetic`: the result of "14 + 23 = " -> 37.

In the corrupted twin both numbers are others and so is the result, which is the bad answer
(Mueller et al. 2025, MIB, after Stolfo et al. 2023). All prompts are listed once, so small ranges
of numbers are soon used up. Results are never negative: of a subtraction the first number is the
larger one, or both are equal.

With a `tokenizer.json` the prompt ends in a space, because the tokenizers that have a token for
each result (Llama 3's) do not join it to a space.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.datasets.generators.params import Problem
from harness.datasets.pairs import (
    Ints,
    Objective,
    PromptPairs,
    TrainingBatch,
)
from harness.datasets.rows import Rows, last_token_batch, last_token_pairs
from harness.datasets.splits import Shares, hash_rows
from harness.datasets.tokenizers import Asked, FileTokenizer, Tokenizer, Vocabulary
from harness.errors import HarnessError

Operation = Literal["addition", "subtraction"]
SIGNS: Mapping[Operation, str] = {"addition": "+", "subtraction": "-"}
MOST_NUMBERS = 1000  # a million prompts


@dataclass(frozen=True)
class ArithmeticParams:
    """`operation`: what is done with the two numbers. `operands`: the smallest and largest."""

    operation: Operation = "addition"
    operands: tuple[int, ...] = (10, 99)

    def problems(self) -> list[Problem]:
        """Return impossible ranges."""
        if len(self.operands) != 2 or not 0 <= self.operands[0] < self.operands[1]:
            return [("operands", "give two numbers, smallest and largest, in order and from 0 on")]
        if self.operands[1] - self.operands[0] >= MOST_NUMBERS:
            return [("operands", f"there are more than {MOST_NUMBERS} numbers; take fewer")]
        return []

    def table(self) -> tuple[Ints, Ints, Ints]:
        """Return both numbers [n] and the result [n] of every prompt."""
        numbers = np.arange(self.operands[0], self.operands[1] + 1)
        left, right = (one.ravel() for one in np.meshgrid(numbers, numbers, indexing="ij"))
        if self.operation == "addition":
            return left, right, left + right
        allowed = left >= right
        left, right = left[allowed], right[allowed]
        return left, right, left - right


class Arithmetic:
    """Source of sums or differences (see `stream.PromptSource`)."""

    def __init__(
        self, params: ArithmeticParams, bos: bool, file: FileTokenizer | None = None
    ) -> None:
        """Take checked parameters and a `tokenizer.json`, or build a vocabulary (with `bos`).

        HarnessError if a result is not one token of the file, or prompts differ in length.
        """
        self._left, self._right, results = params.table()
        sign = SIGNS[params.operation]
        texts = [
            f"{left} {sign} {right} = " for left, right in zip(self._left, self._right, strict=True)
        ]
        words = [str(result) for result in results]
        self.tokenizer: Tokenizer = file or Vocabulary.of_words([*texts, *words], bos)
        self._tokens = _prompts(self.tokenizer, texts)
        ids = {word: self.tokenizer.single(word) for word in dict.fromkeys(words)}
        self._answers = np.array([ids[word] for word in words], dtype=np.int64)
        self._texts, self._words = texts, words
        self.longest = self._tokens.shape[1]

    def draw(self, rng: np.random.Generator, n: int, split: str, paired: bool) -> Rows:
        """Return at most n rows; those whose twin shares a number or the result are dropped."""
        clean = rng.integers(len(self._tokens), size=n)
        twin = rng.integers(len(self._tokens), size=n)
        keep = self._differ(clean, twin)
        clean, twin = clean[keep], twin[keep]
        rows: Rows = {
            "tokens": self._tokens[clean],
            "lengths": np.full(len(clean), self.longest, dtype=np.int64),
            "good": self._answers[clean],
            "bad": self._answers[twin],
            "clean": clean,
            "twin": twin,
        }
        if paired:
            rows["corrupted"] = self._tokens[twin]
        return rows

    def split_of(self, rows: Rows, shares: Shares) -> Ints:
        """Return the split of each row, decided by the whole prompt."""
        return shares.of(hash_rows(rows["tokens"], rows["lengths"], shares.seed))

    def pairs(self, rows: Rows) -> PromptPairs:
        """Return rows as pairs read at the last token."""
        return last_token_pairs(rows)

    def continuations(self, rows: Rows, paired: bool) -> Iterator[Asked]:
        """Yield what is asked in each row (see `stream.TextSource`)."""
        for clean, twin in zip(rows["clean"].tolist(), rows["twin"].tolist(), strict=True):
            both = (clean, twin) if paired else (clean,)
            for prompt in both:
                yield from (Asked(self._texts[prompt], self._words[one]) for one in both)

    def batch(self, rows: Rows, objective: Objective) -> TrainingBatch:
        """Return rows with the result as target of the last token, or every next token."""
        return last_token_batch(rows, objective, self.tokenizer.size)

    def _differ(self, one: Ints, other: Ints) -> NDArray[np.bool_]:
        """Return where two prompts have no number and no result in common."""
        differ = np.ones(len(one), dtype=np.bool_)
        for values in (self._left, self._right, self._answers):
            differ &= values[one] != values[other]
        return differ


def _prompts(tokenizer: Tokenizer, texts: Sequence[str]) -> Ints:
    """Return the tokens [n, T] of prompts that must all be equally long."""
    ids = [tokenizer.prompt(text) for text in texts]
    sizes = {len(row): text for row, text in zip(ids, texts, strict=True)}
    if len(sizes) > 1:
        shown = " and ".join(f"{text!r} {size}" for size, text in sorted(sizes.items())[:2])
        raise HarnessError(
            f"prompts have different numbers of tokens ({shown}), so pairs are not aligned; choose "
            "operands of one length, or another tokenizer"
        )
    return np.array(ids, dtype=np.int64)
