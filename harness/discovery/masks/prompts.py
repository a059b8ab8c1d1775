"""Prompt pairs for training masks: small batches in random order, with what the frozen model says.

The counterfactual activations and the whole model's logits of a pair never change. A training that
sees pairs again computes them once where they fit into a budget. Beyond it, and where no pair
comes twice, they are computed anew for every batch, so that memory does not grow with the number
of pairs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness import ranks
from harness.circuits.patchable import plain_logits
from harness.datasets.batch import Batch
from harness.datasets.shuffled import Shuffled
from harness.discovery.problem import Problem

BUDGET = 2**28
"""Numbers kept for all pairs together: 1 GiB in float32."""


class Prompts(NamedTuple):
    """Some prompt pairs of one length, their counterfactual, and the whole model's logits.

    `of`: pairs of the step, where several processes share them (`harness.ranks`).
    """

    batch: Batch
    counterfactual: Any
    whole: Tensor
    of: int

    def take(self, rows: Tensor) -> Prompts:
        """The pairs `rows` [b] alone."""
        return Prompts(
            self.batch.take(rows),
            self.counterfactual.take(rows),
            self.whole[rows.to(self.whole.device)],
            self.of,
        )


def steps_per_epoch(problem: Problem, size: int) -> int:
    """Steps of at most `size` pairs of one length in which every pair comes once."""
    return sum(-(-len(batch) // size) for batch in problem.batches)


class StepPrompts:
    """`Prompts` of at most `size` pairs for any step; every pair comes once in each epoch.

    The order is a function of the seed and the epoch alone, so that a training that was stopped
    sees the same prompts when it resumes. `steps` are those that will be asked for.
    """

    def __init__(
        self, problem: Problem, size: int, seed: int, steps: int, budget: int = BUDGET
    ) -> None:
        self.problem, self.size, self.seed = problem, size, seed
        self.per_epoch = steps_per_epoch(problem, size)
        self._epoch, self._order = -1, Shuffled([], torch.empty(0), [], size)
        again = steps > self.per_epoch
        self._cache = self._fill() if again and self._numbers() <= budget else None

    def at(self, step: int) -> Prompts:
        """The prompts of a step; of several processes each has its share."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._shuffled(epoch)
        index, rows = self._order.at(place)
        own = ranks.rows_to_run(len(rows))
        mine = rows[own.start : own.stop]
        if self._cache is None:
            prompts = self._prompts(self.problem.batches[index].take(mine))
        else:
            prompts = self._cache[index].take(mine)
        return prompts._replace(of=len(rows))

    def _numbers(self) -> int:
        tokens = sum(batch.clean.numel() for batch in self.problem.batches)
        read = sum(batch.positions.numel() for batch in self.problem.batches)
        counterfactuals = self.problem.patchable.counterfactual_numbers(tokens)
        return counterfactuals + read * self.problem.model.config.n_outputs

    def _fill(self) -> list[Prompts]:
        return [self._prompts(batch) for batch in self.problem.batches]

    def _prompts(self, batch: Batch) -> Prompts:
        whole = plain_logits(self.problem.model, batch)
        return Prompts(batch, self.problem.counterfactuals.of(batch), whole, len(batch))

    def _shuffled(self, epoch: int) -> Shuffled:
        draw = torch.Generator().manual_seed((self.seed + epoch) % 2**63)
        return Shuffled.of(self.problem.batches, self.size, draw)
