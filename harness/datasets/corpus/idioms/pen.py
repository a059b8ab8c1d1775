"""Writes text by choices, and adds up −log p of what was chosen.

The text of a language in which every text has one derivation has that probability exactly.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import log
from typing import TypeVar

T = TypeVar("T")

Uniform = Callable[[], float]
"""Draws numbers in [0, 1)."""


class Pen:
    """Text in `parts`, and its −log p in nats."""

    def __init__(self, uniform: Uniform) -> None:
        """Take what every choice is drawn with."""
        self._uniform = uniform
        self.parts: list[str] = []
        self.nats = 0.0

    @classmethod
    def seeded(cls, *seed: int) -> Pen:
        """A pen whose choices are a function of some numbers, on every platform."""
        return cls(random.Random("/".join(map(str, seed))).random)

    def write(self, text: str) -> None:
        """Add text that is no choice."""
        self.parts.append(text)

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options, all equally likely."""
        size = len(options)
        self.nats += log(size)
        return options[int(self._uniform() * size)]

    def coin(self, chance: float) -> bool:
        """Return True with this probability, strictly between 0 and 1."""
        chosen = self._uniform() < chance
        self.nats -= log(chance if chosen else 1 - chance)
        return chosen

    def weigh(self, options: Sequence[T], weights: Sequence[float]) -> T:
        """Return one of the options, as likely as its positive weight says."""
        ends = list(accumulate(weights))
        point = self._uniform() * ends[-1]
        index = next(i for i, end in enumerate(ends) if point < end or i == len(ends) - 1)
        self.nats -= log(weights[index] / ends[-1])
        return options[index]

    def take(self) -> tuple[str, float]:
        """Return the text written since the last call, with its −log p."""
        text, nats = "".join(self.parts), self.nats
        self.parts, self.nats = [], 0.0
        return text, nats
