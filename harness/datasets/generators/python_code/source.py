"""Prompts of `python_code`: some statements of the idioms, then one that stops at a question.

Both answers of a question are clean answers equally often. A split has content words of its own:
no prompt of one split has a name, a number or a word of a string of another one, but for the fixed
name of `set_or_string_fixedvarname`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from harness.datasets.corpus.idioms.document import statement
from harness.datasets.corpus.idioms.page import Page
from harness.datasets.corpus.idioms.pen import Pen
from harness.datasets.corpus.idioms.words import WORDS, Words
from harness.datasets.generators.params import Problem
from harness.datasets.generators.python_code.cues import CUES, Twins, bracket_counting
from harness.datasets.pairs import Ints, Objective, PromptPairs, TrainingBatch, padded
from harness.datasets.rows import Rows, last_token_batch, last_token_pairs
from harness.datasets.splits import Shares
from harness.datasets.tokenizers import Asked, FileTokenizer
from harness.errors import HarnessError
from harness.spec.key import About, Key


@dataclass(frozen=True)
class PythonCodeParams:
    """`cue`: the question. `statements`: fewest and most before it. `longest`: tokens, with BOS.

    `numbers`, `comment`: code that the corpus hardly has or never, to see where a model fails.
    """

    ABOUT: ClassVar = About("Parameters of `python_code`", name="python_code")

    cue: Annotated[
        str,
        Key("Cue", "The question that a prompt ends in.", ["for_while"], one_of=sorted(CUES)),
    ] = "single_double_quote"
    statements: Annotated[
        tuple[Annotated[int, Key(minimum=0, maximum=64)], ...],
        Key(
            "Statements",
            "Fewest and most statements before the question.",
            [[0, 3]],
            min_items=2,
            max_items=2,
        ),
    ] = (0, 3)
    longest: Annotated[
        int,
        Key(
            "Longest",
            "Most tokens of a prompt, BOS included; longer ones are not used.",
            [96],
            minimum=32,
            maximum=4096,
        ),
    ] = 96
    numbers: Annotated[
        tuple[Annotated[int, Key(minimum=1, maximum=1024)], ...],
        Key(
            "Numbers",
            "Of bracket_counting: fewest and most numbers of the list. Lists of the corpus have "
            "at most three in double brackets, and five in single ones.",
            [[1, 3], [20, 20]],
            younger=True,
            min_items=2,
            max_items=2,
        ),
    ] = (1, 3)
    comment: Annotated[
        Literal["none", "word", "bracket"],
        Key(
            "Comment",
            "A comment in the line before the question: `word`: words of the corpus's strings; "
            "`bracket`: the same, but the last is a bracket that is never closed.",
            ["bracket"],
            younger=True,
        ),
    ] = "none"

    def problems(self) -> list[Problem]:
        """Return an unknown cue and an empty range."""
        problems: list[Problem] = []
        if self.cue not in CUES:
            problems.append(("cue", f"unknown cue {self.cue!r}; one of {', '.join(sorted(CUES))}"))
        if len(self.statements) != 2 or not 0 <= self.statements[0] <= self.statements[1]:
            problems.append(("statements", "give two numbers, fewest and most, in order"))
        if len(self.numbers) != 2 or not 1 <= self.numbers[0] <= self.numbers[1]:
            problems.append(("numbers", "give two numbers from 1 on, fewest and most, in order"))
        if self.numbers != (1, 3) and self.cue != "bracket_counting":
            problems.append(("numbers", f"cue {self.cue!r} has no list; leave it out"))
        return problems


class PythonCode:
    """Source of code that stops at a question (see `stream.PromptSource`)."""

    def __init__(self, params: PythonCodeParams, tokenizer: FileTokenizer, shares: Shares) -> None:
        """Take checked parameters and the tokenizer; the shares divide the words."""
        self.params, self.tokenizer = params, tokenizer
        self.longest = params.longest
        self._shares = shares
        self._words: dict[str, Words] = {}

    def draw(self, rng: np.random.Generator, n: int, split: str, paired: bool) -> Rows:
        """Return at most n rows of a split; too long ones are left out.

        Raises `HarnessError` if no twins have as many tokens: the tokenizer does not suit them.
        """
        words = self._words_of(split)
        twins = [self._twins(Pen.seeded(int(seed)), words) for seed in rng.integers(2**62, size=n)]
        clean = self.tokenizer.encode_all([one.clean for one in twins])
        corrupted = self.tokenizer.encode_all([one.corrupted for one in twins])
        before = [] if self.tokenizer.bos is None else [self.tokenizer.bos]
        aligned = [i for i in range(n) if len(clean[i]) == len(corrupted[i])]
        if n and not aligned:
            one = twins[0]
            raise HarnessError(
                f"no prompts of cue {self.params.cue!r} have as many tokens as their twins with "
                f"this tokenizer: {one.clean[-40:]!r} and {one.corrupted[-40:]!r}; use one of "
                "`harness.cli.python_tokenizer`"
            )
        kept = [i for i in aligned if len(clean[i]) + len(before) <= self.longest]
        chosen = [twins[i] for i in kept]
        ids = {text: self.tokenizer.single(text) for one in chosen for text in (one.good, one.bad)}
        return {
            "tokens": padded([[*before, *clean[i]] for i in kept], 0, self.longest),
            "corrupted": padded([[*before, *corrupted[i]] for i in kept], 0, self.longest),
            "lengths": np.array([len(clean[i]) + len(before) for i in kept], dtype=np.int64),
            "good": np.array([ids[one.good] for one in chosen], dtype=np.int64),
            "bad": np.array([ids[one.bad] for one in chosen], dtype=np.int64),
            "split": np.full(len(kept), self._shares.index(split), dtype=np.int64),
            "texts": np.array(chosen, dtype=object).reshape(-1, len(Twins._fields)),
        }

    def split_of(self, rows: Rows, shares: Shares) -> Ints:
        """Return the split that the words of each row belong to."""
        return rows["split"]

    def pairs(self, rows: Rows) -> PromptPairs:
        """Return rows as pairs read at the last token."""
        return last_token_pairs(rows)

    def batch(self, rows: Rows, objective: Objective) -> TrainingBatch:
        """Return rows with the answer as target of the last token, or every next token."""
        return last_token_batch(rows, objective, self.tokenizer.size)

    def continuations(self, rows: Rows, paired: bool) -> Iterator[Asked]:
        """Yield what is asked in each row (see `stream.TextSource`); no space comes between."""
        for clean, corrupted, good, bad in rows["texts"].tolist():
            yield Asked(clean, good, joined=True)
            if paired:
                yield Asked(clean, bad, joined=True)
                yield Asked(corrupted, good, joined=True)
                yield Asked(corrupted, bad, joined=True)

    def _twins(self, pen: Pen, words: Words) -> Twins:
        page = Page(pen, words)
        for _ in range(page.several(*self.params.statements)):
            for _ in statement(page):
                pass
        before, _ = pen.take()
        swapped = pen.coin(0.5)
        before += self._comment(page)
        asked = self._asked(page)
        clean, corrupted = before + asked.clean, before + asked.corrupted
        if swapped:
            return Twins(corrupted, clean, asked.bad, asked.good)
        return Twins(clean, corrupted, asked.good, asked.bad)

    def _comment(self, page: Page) -> str:
        if self.params.comment == "none":
            return ""
        last = page.pen.pick(page.words.texts)
        page.write(f"# {page.phrase(3)} {last if self.params.comment == 'word' else '['}\n")
        return page.pen.take()[0]

    def _asked(self, page: Page) -> Twins:
        if self.params.cue == "bracket_counting":
            return bracket_counting(page, *self.params.numbers)
        return CUES[self.params.cue](page)

    def _words_of(self, split: str) -> Words:
        if split not in self._words:
            self._words[split] = WORDS.of_split(split, self._shares.shares, self._shares.seed)
        return self._words[split]
