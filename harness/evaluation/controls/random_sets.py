"""Random sets of as many elements as a circuit has: what its necessity is compared with.

A control must have the chance to matter. A feature that is inactive on all prompts, or a channel
without weights, changes nothing whether it is ablated or not; sets of these would make any circuit
look needed. Elements that can matter are drawn first, others only where these do not suffice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.circuits.patchable import Observing
from harness.circuits.space import Space
from harness.evaluation.curve import Floats
from harness.evaluation.setup import Setup
from harness.metrics.statistics import LEVEL, student_t


@dataclass(frozen=True)
class RandomSets:
    """Draws sets of a space's elements, those of `among` (bool [E]) first."""

    space: Space
    among: Tensor

    @classmethod
    def of(cls, setup: Setup) -> RandomSets:
        """Of the elements that differ, on some prompt, from what replaces them.

        Without those that surely change no logit (`Space.prune`). Cost: one forward of each batch
        and its counterfactual, for granularities that can tell; others count all elements.
        """
        everything = torch.ones(len(setup.space), dtype=torch.bool)
        among = setup.space.prune(everything, setup.choices.ablation)
        if isinstance(setup.patchable, Observing):
            differs = torch.zeros_like(everything)
            for batch in setup.batches:
                counterfactual = setup.counterfactuals.of(batch)
                differs |= setup.patchable.differing(batch, counterfactual).cpu()
            among = among & differs
        return cls(setup.space, among)

    def draw(self, size: int, count: int, generator: torch.Generator) -> list[Tensor]:
        """Sets of `size` elements each, bool [E]."""
        sets = []
        for _ in range(count):
            place = self.space.uniform(generator, torch.float64)
            order = torch.where(self.among, place, place + 1).argsort(stable=True)
            kept = torch.zeros(len(self.space), dtype=torch.bool)
            kept[order[:size]] = True
            sets.append(kept)
        return sets


def of_sets(means: Floats) -> dict[str, Any]:
    """Mean of the sets' numbers [R], its 95 % interval over sets (Student's t), and the largest.

    Null without sets; the interval also for a single one.
    """
    n = len(means)
    mean = float(means.mean()) if n else None
    half = student_t(n - 1, LEVEL) * float(means.std(ddof=1)) / n**0.5 if n > 1 else None
    return {
        "random_mean": mean,
        "random_low": None if mean is None or half is None else mean - half,
        "random_high": None if mean is None or half is None else mean + half,
        "random_largest": float(means.max()) if n else None,
    }
