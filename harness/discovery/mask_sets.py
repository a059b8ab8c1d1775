"""From several trained sets of masks, one for each target or price, to what a method found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.discovery.mask_training import LawOf, Training, train_masks
from harness.discovery.problem import Discovery, Problem
from harness.spec.types import Objective


def discover_over(
    problem: Problem,
    settings: Sequence[float],
    labels: Sequence[str],
    law_of: LawOf,
    training: Training,
    title: str,
) -> Discovery:
    """Train a set of masks for each setting; the ranking of the middle one is the scores.

    Each ranking serves circuits of about the number of elements that its masks are expected to
    keep; of two that keep equally many, the later setting's. `labels` are their names in the notes.
    """
    found, earlier = train_masks(problem, settings, law_of, training, title)
    return Discovery(
        found[len(found) // 2].scores,
        {max(1, round(one.expected_size)): one.scores for one in found},
        notes={
            f"{label}/{name}": value
            for label, one in zip(labels, found, strict=True)
            for name, value in one.report.items()
        },
        earlier_seconds=earlier,
    )


@dataclass(frozen=True)
class PriceSweep:
    """What the priced methods share: one training for each of `prices`.

    See `specs/method.schema.json` for the fields.
    """

    prices: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1)
    steps: int = 1000
    learning_rate: float = 0.1
    batch_size: int = 32
    draws: int = 1
    objective: Objective = "kl"

    def over(
        self,
        problem: Problem,
        law_of: LawOf,
        title: str,
        betas: tuple[float, float] = Training.betas,
    ) -> Discovery:
        """Train a set of masks for each price."""
        training = Training(
            self.steps, self.batch_size, self.objective, draws=self.draws, betas=betas
        )
        labels = [f"{price:g}" for price in self.prices]
        return discover_over(problem, self.prices, labels, law_of, training, title)
