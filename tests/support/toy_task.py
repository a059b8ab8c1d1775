"""The smallest task there is: the answer is the first token of the prompt."""

from __future__ import annotations

import numpy as np

from harness.datasets.pairs import NO_TARGET, PromptPairs, TrainingBatch
from harness.datasets.tokenizers import Vocabulary
from harness.spec.types import Evaluation

TOKENS, LENGTH = 6, 4

CHOICES = Evaluation(
    granularity="edge",
    component="heads_qkv_mlps",
    ablation="interchange",
    positions="all",
    direction="noising",
    set="complement",
)


class FirstToken:
    """`TaskData` whose corrupted prompts begin with another token."""

    def __init__(self) -> None:
        self.tokenizer = Vocabulary("characters", tuple("abcdef"), False)
        self.longest = LENGTH
        self.splits = ("train", "validation", "test")

    def pairs(self, split: str, n: int, seed: int, *, at_most: bool = False) -> PromptPairs:
        rng = np.random.default_rng([self.splits.index(split), n, seed])
        clean = rng.integers(TOKENS, size=(n, LENGTH))
        corrupted = clean.copy()
        corrupted[:, 0] = (clean[:, 0] + rng.integers(1, TOKENS, size=n)) % TOKENS
        return PromptPairs(
            clean,
            corrupted,
            np.full(n, LENGTH),
            np.full((n, 1), LENGTH - 1),
            clean[:, :1, None],
            corrupted[:, :1, None],
        )

    def training_batch(self, objective: str, size: int, step: int, seed: int) -> TrainingBatch:
        rng = np.random.default_rng([9, seed, step])
        tokens = rng.integers(TOKENS, size=(size, LENGTH))
        targets = np.full((size, LENGTH), NO_TARGET)
        targets[:, -1] = tokens[:, 0]
        return TrainingBatch(tokens, np.full(size, LENGTH), targets)
