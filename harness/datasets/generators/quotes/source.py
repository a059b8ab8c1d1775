r"""Generator `quotes`: close the string that is open at the end of code-like text.

A prompt is a few lines of code with names, numbers, comments and closed strings, and ends
inside one open string of single, double or backtick quotes. Distractors: apostrophes and
lone quotes in comments, closed strings of other kinds, bare quotes of a third kind and
escaped quotes (`\'`) inside strings. The answer is the closing quote. In the corrupted twin
only the opening quote differs; the content is valid in both.

Dense training (`answer`) asks at every position inside a string: which quote closes it?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from harness.datasets.generators.params import Problem
from harness.datasets.generators.quotes.bank import (
    ALPHABET,
    LONGEST_LINE,
    QUOTES,
    Bank,
    chunk_banks,
    head_bank,
    line_bank,
)
from harness.datasets.pairs import (
    Ints,
    Objective,
    PromptPairs,
    TrainingBatch,
)
from harness.datasets.rows import Rows, dense_batch, last_token_pairs, opening_split, with_bos
from harness.datasets.splits import Shares
from harness.datasets.tokenizers import Vocabulary
from harness.spec.key import About, Key

LONGEST_HEAD = 14
LONGEST_CHUNK = 6


@dataclass(frozen=True)
class QuoteParams:
    """`lengths`: prompt lengths in characters. `content`: fewest and most characters after
    the opening quote.
    """

    ABOUT: ClassVar = About("Parameters of `quotes`", name="quotes")

    lengths: Annotated[
        tuple[Annotated[int, Key(minimum=1, maximum=512)], ...],
        Key(
            "Lengths",
            "Prompt lengths in characters, drawn evenly.",
            [[32, 40, 48]],
            min_items=1,
            unique=True,
        ),
    ] = (32, 40, 48)
    content: Annotated[
        tuple[Annotated[int, Key(minimum=1, maximum=256)], ...],
        Key(
            "Content",
            "Fewest and most characters after the opening quote.",
            [[2, 16]],
            min_items=2,
            max_items=2,
        ),
    ] = (2, 16)

    def problems(self) -> list[Problem]:
        """Return impossible values and combinations."""
        if len(self.content) != 2 or not 1 <= self.content[0] <= self.content[1]:
            return [("content", "give two numbers, fewest and most, at least 1 and in order")]
        needed = LONGEST_HEAD + 1 + self.content[1]
        if not self.lengths or min(self.lengths) < needed:
            return [
                (
                    "lengths",
                    f"give lengths of at least {needed} characters (line head of up to "
                    f"{LONGEST_HEAD}, quote, {self.content[1]} of content)",
                )
            ]
        return []


class Quotes:
    """Source of prompts that end inside a string (see `stream.PromptSource`)."""

    def __init__(self, params: QuoteParams, bos: bool, seed: int) -> None:
        """Take checked parameters; `seed` makes the bank of lines."""
        self.params = params
        self.tokenizer = Vocabulary("characters", ALPHABET, bos)
        self._bos = int(bos)
        self._lengths = np.array(params.lengths)
        self.longest = max(params.lengths) + self._bos
        self._opening = min(params.lengths) + self._bos
        self._lines = line_bank(seed)
        self._heads = head_bank(seed, LONGEST_HEAD)
        self._chunks = chunk_banks(seed)

    def draw(self, rng: np.random.Generator, n: int, split: str, paired: bool) -> Rows:
        """Return n rows; besides the tokens, the string kind open after every token."""
        lengths = self._lengths[rng.integers(len(self._lengths), size=n)]
        content = rng.integers(self.params.content[0], self.params.content[1] + 1, size=n)
        kind = rng.integers(3, size=n)
        twin_kind = (kind + rng.integers(1, 3, size=n)) % 3
        page = _Page(n, max(self.params.lengths))
        head = rng.integers(len(self._heads.lengths), size=n)
        quote_at = lengths - content - 1
        space = quote_at - self._heads.lengths[head]
        self._put_lines(rng, page, space)
        page.put(self._heads, head, space)
        rows = np.arange(n)
        page.letters[rows, quote_at] = kind  # quotes are the first three letters
        self._put_content(rng, page, quote_at + 1, lengths, 3 - kind - twin_kind)
        columns = np.arange(page.letters.shape[1])
        in_string = (columns >= quote_at[:, None]) & (columns < lengths[:, None])
        inside = np.where(in_string, kind[:, None], page.inside)
        twin = page.letters.copy()
        twin[rows, quote_at] = twin_kind
        return {
            "tokens": with_bos(page.letters, lengths, self._bos),
            "corrupted": with_bos(twin, lengths, self._bos),
            "lengths": lengths + self._bos,
            "inside": np.pad(inside, ((0, 0), (self._bos, 0)), constant_values=-1),
            "good": kind + self._bos,
            "bad": twin_kind + self._bos,
        }

    def split_of(self, rows: Rows, shares: Shares) -> Ints:
        """Return the split of each row, decided by its opening (the shortest prompt's length)."""
        return opening_split(rows, self._opening, shares)

    def pairs(self, rows: Rows) -> PromptPairs:
        """Return rows as pairs read at the last token."""
        return last_token_pairs(rows)

    def batch(self, rows: Rows, objective: Objective) -> TrainingBatch:
        """Return rows with the next character, or the closing quote due, as target."""
        return dense_batch(rows, objective, first_answer=self._bos)

    def _put_lines(self, rng: np.random.Generator, page: _Page, space: Ints) -> None:
        """Fill `space` characters of every row with complete lines, exactly."""
        bank, left = self._lines, space.copy()
        while left.any():
            rows = np.flatnonzero(left)
            room = np.minimum(left[rows], LONGEST_LINE)
            upper = bank.count_up_to[room]
            # End the page with a line that fits exactly, for some rows at the first chance.
            exact = (left[rows] == room) & (rng.random(len(rows)) < 0.5)
            lower = np.where(exact, bank.count_up_to[room - 1], 0)
            line = rng.integers(lower, upper)
            page.put(bank, line, (space - left)[rows], rows)
            left[rows] -= bank.lengths[line]

    def _put_content(
        self, rng: np.random.Generator, page: _Page, at: Ints, end: Ints, bare: Ints
    ) -> None:
        """Fill columns `at` … `end` with content whose only bare quote kind is `bare`."""
        for kind in range(len(QUOTES)):
            bank, rows, place = self._chunks[kind], np.flatnonzero(bare == kind), at.copy()
            while len(rows):
                room = np.minimum(end[rows] - place[rows], LONGEST_CHUNK)
                chunk = rng.integers(bank.count_up_to[np.minimum(room, len(bank.count_up_to) - 1)])
                page.put(bank, chunk, place[rows], rows)
                place[rows] += bank.lengths[chunk]
                rows = rows[place[rows] < end[rows]]


class _Page:
    """n rows of characters that blocks are copied into."""

    def __init__(self, n: int, width: int) -> None:
        self.letters = np.zeros((n, width), dtype=np.int64)
        self.inside = np.full((n, width), -1, dtype=np.int64)

    def put(self, bank: Bank, block: Ints, at: Ints, rows: Ints | None = None) -> None:
        """Copy `block[i]` of the bank into row `rows[i]` from column `at[i]` on."""
        rows = np.arange(len(block)) if rows is None else rows
        sizes = bank.lengths[block]
        owner = np.repeat(np.arange(len(block)), sizes)
        step = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        source = bank.starts[block][owner] + step
        target = (rows[owner], at[owner] + step)
        self.letters[target] = bank.letters[source]
        self.inside[target] = bank.inside[source]
