"""A corpus as training data: batches of windows, a function of seed and step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.datasets.corpus.windows import HeldOutWindows, Texts
from harness.datasets.pairs import Ints, Objective, TrainingBatch
from harness.datasets.tokenizers import FileTokenizer
from harness.errors import HarnessError

HELD_OUT_WINDOWS = 64
"""Of each kind of text."""

_TRAINING = 3  # keeps these random streams apart from those of prompts


@dataclass(frozen=True)
class CorpusData:
    """Texts by kind, with the shares of the windows that they have.

    `longest`: tokens of a window. Every row of a batch is a full window, each kind of text as
    likely as its share says.
    """

    tokenizer: FileTokenizer
    longest: int
    texts: Mapping[str, Texts]
    shares: Mapping[str, float]

    def training_batch(
        self, objective: Objective, size: int, step: int, seed: int
    ) -> TrainingBatch:
        """Return `size` windows; equal arguments, equal batch. HarnessError for `answer`."""
        if objective != "next_token":
            raise HarnessError(
                f"training.objective {objective!r} asks for answers, and a corpus has none; set it "
                "to next_token"
            )
        windows = self._windows(size, step, seed)
        lengths = np.full(size, self.longest, dtype=np.int64)
        return TrainingBatch(windows[:, :-1], lengths, windows[:, 1:])

    def _windows(self, size: int, step: int, seed: int) -> Ints:
        names = list(self.texts)
        rng = np.random.default_rng([_TRAINING, seed, step])
        kinds = rng.choice(len(names), size=size, p=[self.shares[name] for name in names])
        windows = np.empty((size, self.longest + 1), dtype=np.int64)
        for kind, name in enumerate(names):
            rows = np.flatnonzero(kinds == kind)
            if len(rows):
                windows[rows] = self.texts[name].windows(len(rows), [seed, step])
        return windows

    def held_out(self) -> list[HeldOutWindows]:
        """Return held-out windows of each kind of text."""
        return [
            texts.held_out(HELD_OUT_WINDOWS, self.shares[name])
            for name, texts in self.texts.items()
        ]


def share_problem(shares: Mapping[str, float]) -> str | None:
    """Return what is wrong with the shares of a mix, if anything."""
    total = math.fsum(shares.values())
    return None if abs(total - 1) < 1e-6 else f"the shares add up to {total:g}, not to 1"
