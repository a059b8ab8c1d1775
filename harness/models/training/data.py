"""What a model is trained on, and what is held out to judge it: two protocols, and prompt pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.datasets.pairs import Objective, PromptPairs, TrainingBatch
from harness.models.training.quality import quality
from harness.models.training.sequences import sequence_quality
from harness.models.transformer import Transformer


class TrainingData(Protocol):
    """Batches to train on; prompts of a task (`TaskData`) and texts of a corpus are such data."""

    def training_batch(
        self, objective: Objective, size: int, step: int, seed: int
    ) -> TrainingBatch:
        """Return the batch of a step; equal arguments, equal batch."""
        ...


class HeldOut(Protocol):
    """Data that is never trained on, and what a model is worth on it."""

    def digest(self) -> str:
        """Return what changes with the data: a checkpoint goes with one digest."""
        ...

    def measure(self, model: Transformer, device: str) -> dict[str, float]:
        """Return means over the data by name; `loss` in nats is one of them.

        `accuracy` is one where there are answers, `entropy` (nats) where the data's source states
        the exact entropy of what the loss is taken of.
        """
        ...


@dataclass(frozen=True)
class HeldOutPairs:
    """Prompt pairs that are held out, judged by the answers to their clean prompts.

    `sequences`: whole ones that are held out too, of tasks that know every right next token.
    """

    pairs: PromptPairs
    sequences: TrainingBatch | None = None

    def digest(self) -> str:
        """Return the digest of the pairs."""
        return self.pairs.digest()

    def measure(self, model: Transformer, device: str) -> dict[str, float]:
        """Return accuracy, probability of the correct answers and answer loss (nats).

        With sequences also the means of `harness.metrics.sequences`.
        """
        values = quality(model, self.pairs, device)
        measured = {name: float(each.mean()) for name, each in values.items()}
        if self.sequences is None:
            return measured
        means = sequence_quality(model, self.sequences, device).means()
        return measured | {name: one["value"] for name, one in means.items()}
