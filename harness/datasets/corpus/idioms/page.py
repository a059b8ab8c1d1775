"""A document of idioms while it is written: its pen, its words and what its names hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.datasets.corpus.idioms.pen import Pen
from harness.datasets.corpus.idioms.words import Words

Holds = Literal["set", "text"]


@dataclass
class Page:
    """`held`: names that are sets or strings, by the text so far; others are never updated.

    `spared`: names that are not written. `emphasis`: how many times as likely as usual lines of a
    kind are (`lines.LINES`).
    """

    pen: Pen
    words: Words
    held: dict[str, Holds] = field(default_factory=dict)
    spared: Collection[str] = ()
    emphasis: Mapping[str, float] = field(default_factory=dict)

    def write(self, text: str) -> None:
        """Add text that is no choice."""
        self.pen.write(text)

    def word(self, pool: Sequence[str], *others: str) -> str:
        """Return a word of a pool that is not among others."""
        barred = {*others, *self.spared}
        return self.pen.pick([one for one in pool if one not in barred] if barred else pool)

    def new(self, *others: str) -> str:
        """Return a name that is about to be assigned: what it held is gone."""
        name = self.word(self.words.names, *others)
        self.held.pop(name, None)
        return name

    def number(self) -> str:
        """Return a literal number."""
        return self.pen.pick(self.words.numbers)

    def phrase(self, most: int) -> str:
        """Return one to `most` words of a string."""
        words = [self.pen.pick(self.words.texts)]
        while len(words) < most and self.pen.coin(0.6):
            words.append(self.pen.pick(self.words.texts))
        return " ".join(words)

    def several(self, least: int, most: int) -> int:
        """Return a number from `least` to `most`, all equally likely."""
        return self.pen.pick(range(least, most + 1))
