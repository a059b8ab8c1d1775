"""Data of kind `program`: random prompts, answered at every token by what a program computes.

In the corrupted twin every token is another one. An answer is read at every position (after BOS)
where the output has a value:
- of a category, good is its value and bad the twin's, or a random other one where the twin has the
  same or none;
- a number is carried by the logit of one token (`CARRIER`), all other logits being 0. Of this token
  and BOS, good is the one whose logit is higher in the clean than in the twin's answer, so
  `logit_diff` is the number with the sign that makes clean prompts better. Accuracy means nothing.

A whole prompt's hash decides its split.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from harness.datasets.pairs import (
    NO_TARGET,
    Ints,
    Objective,
    PromptPairs,
    TrainingBatch,
    next_token_targets,
)
from harness.datasets.problems import Problem, listed, share_problems_at
from harness.datasets.program.program import CARRIER, Program
from harness.datasets.program.read import read_program
from harness.datasets.program.run import run_program
from harness.datasets.program.spec import ProgramData
from harness.datasets.rows import Rows, take, with_bos
from harness.datasets.splits import Shares, hash_rows
from harness.datasets.stream import StreamData
from harness.datasets.tokenizers import Vocabulary
from harness.errors import HarnessError
from harness.spec.types import TokenizerSpec

Floats = NDArray[np.float64]


def program_problems(
    data: ProgramData, tokenizer: TokenizerSpec, folder: Path = Path()
) -> list[Problem]:
    """Return everything that is wrong with a program task, with places in its file."""
    shares = share_problems_at(data.shares)
    return [*_tokenizer_problems(tokenizer), *shares, *read_program(data)[1]]


def open_program(data: ProgramData, tokenizer: TokenizerSpec, folder: Path = Path()) -> StreamData:
    """Return the data of a program task; HarnessError with everything that is wrong."""
    problems = program_problems(data, tokenizer)
    if problems:
        raise HarnessError(listed(problems))
    source = ProgramPrompts(checked_program(data), tuple(data.lengths))
    return StreamData(source, Shares(data.shares, data.seed))


def checked_program(data: ProgramData) -> Program:
    """Return the program of a task; HarnessError with everything that is wrong."""
    program, problems = read_program(data)
    if program is None:
        raise HarnessError(listed(problems))
    return program


def _tokenizer_problems(tokenizer: TokenizerSpec) -> Iterator[Problem]:
    if tokenizer.kind != "words":
        text = f"a program needs tokenizer kind 'words', not {tokenizer.kind!r}"
        yield ("tokenizer", "kind"), text
    if tokenizer.bos is not True:
        yield ("tokenizer", "bos"), "a program needs `bos: true`: BOS marks where nothing is"


class ProgramPrompts:
    """Source of prompts answered by a program (see `stream.PromptSource`)."""

    def __init__(self, program: Program, lengths: tuple[int, ...]) -> None:
        """Take a program and the lengths of prompts without BOS, drawn evenly."""
        self.program = program
        self.tokenizer = Vocabulary("words", program.tokens, True)
        self.longest = program.longest + 1
        self._lengths = np.array(lengths)
        # Prompts are few and come back in every batch.
        self._answers_of = lru_cache(maxsize=1 << 16)(self._answer)

    def draw(self, rng: np.random.Generator, n: int, split: str, paired: bool) -> Rows:
        """Return at most n prompts that have an answer somewhere, with twins."""
        words, width = len(self.program.vocabulary), self.program.longest
        lengths = self._lengths[rng.integers(len(self._lengths), size=n)]
        ids = rng.integers(words, size=(n, width))
        others = (ids + rng.integers(1, words, size=(n, width))) % words
        rows: Rows = {
            "tokens": self._prompts(ids, lengths),
            "corrupted": self._prompts(others, lengths),
            "lengths": lengths + 1,
            "spare": rng.integers(1 << 30, size=(n, width)),
        }
        rows["answers"] = self._answers(rows["tokens"], rows["lengths"])
        return take(rows, ~np.isnan(rows["answers"]).all(axis=1))

    def split_of(self, rows: Rows, shares: Shares) -> Ints:
        """Return the split of each row, decided by the whole prompt."""
        return shares.of(hash_rows(rows["tokens"], rows["lengths"], shares.seed))

    def pairs(self, rows: Rows) -> PromptPairs:
        """Return rows as pairs, read at every token that has an answer."""
        clean, twin = rows["answers"], self._answers(rows["corrupted"], rows["lengths"])
        read = ~np.isnan(clean)
        good, bad = (
            self._numbers(clean, twin)
            if self.program.numerical
            else self._categories(clean, twin, rows["spare"])
        )
        return PromptPairs(
            clean=rows["tokens"],
            corrupted=rows["corrupted"],
            lengths=rows["lengths"],
            positions=np.where(read, np.arange(1, clean.shape[1] + 1), -1),
            # Two different ids also where nothing is read: a mean over no answer would be 0/0,
            # whose gradient is not a number although its value is never used.
            good=np.where(read, good, CARRIER)[..., None],
            bad=np.where(read, bad, 0)[..., None],
        )

    def batch(self, rows: Rows, objective: Objective) -> TrainingBatch:
        """Return prompts with the answer due at every token, or the next token, as target."""
        if self.program.numerical:
            raise HarnessError(
                "a numerical output has no answer tokens to train on; give the program a map "
                "that turns it into a category"
            )
        tokens, lengths = rows["tokens"], rows["lengths"]
        answers = np.nan_to_num(rows["answers"], nan=NO_TARGET).astype(np.int64)
        targets = np.pad(answers, ((0, 0), (1, 0)), constant_values=NO_TARGET)
        if objective == "next_token":
            last = targets[np.arange(len(tokens)), lengths - 1]
            targets = next_token_targets(tokens, lengths, last)
        return TrainingBatch(tokens, lengths, targets)

    def _prompts(self, ids: Ints, lengths: Ints) -> Ints:
        """Words counted from 0 as tokens: BOS first, and the first word has id 1."""
        inside = np.arange(ids.shape[1]) < lengths[:, None]
        return with_bos(np.where(inside, ids, 0), lengths, 1)

    def _answers(self, tokens: Ints, lengths: Ints) -> Floats:
        """Right answers [n, T-1] after BOS: token ids, or the numbers themselves; NaN for none."""
        answers = np.full((len(tokens), tokens.shape[1] - 1), np.nan)
        for row, prompt, length in zip(answers, tokens.tolist(), lengths.tolist(), strict=True):
            row[: length - 1] = self._answers_of(tuple(prompt[1:length]))
        return answers

    def _answer(self, prompt: tuple[int, ...]) -> tuple[float, ...]:
        words = [self.tokenizer.tokens[index] for index in prompt]
        values = run_program(self.program, words)[self.program.output]
        if self.program.numerical:
            return tuple(float(cast("Fraction", value)) for value in values)
        ids = self.program.answer_ids
        return tuple(np.nan if value is None else ids[value] for value in values)

    def _numbers(self, clean: Floats, twin: Floats) -> tuple[Ints, Ints]:
        higher = clean >= twin
        return np.where(higher, CARRIER, 0), np.where(higher, 0, CARRIER)

    def _categories(self, clean: Floats, twin: Floats, spare: Ints) -> tuple[Ints, Ints]:
        ids = np.array(sorted(set(self.program.answer_ids.values())))
        good = np.nan_to_num(clean).astype(np.int64)
        place = np.searchsorted(ids, good)
        other = ids[(place + 1 + spare % (len(ids) - 1)) % len(ids)]
        useful = ~np.isnan(twin) & (twin != clean)
        return good, np.where(useful, np.nan_to_num(twin).astype(np.int64), other)
