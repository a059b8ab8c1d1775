"""Measures of the model without a circuit, on every prompt pair: columns of tables.

The same numbers as those of `judge` (`harness.evaluation.necessity`). Always with the task's own
answers: of a circuit that was found for others, whether the model needs it for what it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.evaluation.calibration import ODDS, calibrated
from harness.evaluation.controls.random_sets import RandomSets
from harness.evaluation.curve import Floats, evaluate_circuits
from harness.evaluation.necessity import (
    TASK_LOSS,
    corrupted_metric,
    has_both,
    on_interchange,
)
from harness.evaluation.setup import Setup
from harness.metrics import MEASURES
from harness.metrics.necessity import (
    CALIBRATED,
    INTERCHANGE,
    NECESSITY,
    OF_RANDOM,
    WITHOUT,
    moved_share,
)

RANDOM_SETS = 10


@dataclass(frozen=True)
class Needed:
    """`test` and `search` (the discovery pairs) with the task's own answers; `seed` of the draws.

    Raises `HarnessError` where the chosen measures are not defined for the prompts.
    """

    test: Setup
    search: Setup
    seed: int

    def __post_init__(self) -> None:
        """Refuse what could only fail after the search."""
        losses = [name for name in self.chosen if name != INTERCHANGE]
        batches = (*self.test.batches, *self.search.batches) if losses else ()
        if not all(has_both(batch) for batch in batches):
            raise HarnessError(
                f"evaluation.measures: {losses[0]} is a task loss, which needs good and bad "
                "answers at every read position"
            )
        if CALIBRATED in losses and any(bool((b.read.sum(-1) != 1).any()) for b in batches):
            raise HarnessError(
                f"evaluation.measures: {CALIBRATED} needs prompts that are read at one position"
            )
        if INTERCHANGE in self.chosen and on_interchange(self.test, self.seed) is None:
            raise HarnessError(
                f"evaluation.measures: {INTERCHANGE} is a share of what the corruption does to "
                "the metric; it needs a granularity with ablation 'interchange' and a metric "
                "other than squared_error"
            )

    @property
    def chosen(self) -> tuple[str, ...]:
        """Those of the task's measures that are taken here."""
        return tuple(
            name for name in self.test.choices.measures if MEASURES[name].computed_from == WITHOUT
        )

    def measure(self, circuits: Sequence[Tensor]) -> dict[str, Floats]:
        """Values [C, n] of circuits (bool [E]) on the test pairs, by the names chosen."""
        values: dict[str, Floats] = {}
        if {NECESSITY, CALIBRATED} & set(self.chosen):
            values |= self._without(circuits)
        if OF_RANDOM in self.chosen:
            values[OF_RANDOM] = self._without_random(circuits)
        if INTERCHANGE in self.chosen:
            values[INTERCHANGE] = self._moved(circuits)
        return {name: values[name] for name in self.chosen}

    def _without(self, circuits: Sequence[Tensor]) -> dict[str, Floats]:
        rests = [~kept for kept in circuits]
        examples = evaluate_circuits(_measuring(self.test, TASK_LOSS, ODDS), rests)
        values = {NECESSITY: examples.values[TASK_LOSS]}
        if CALIBRATED in self.chosen:
            odds, plain = examples.values[ODDS], examples.plain[ODDS]
            values[CALIBRATED], _ = calibrated(self.test, self.search, rests, odds, plain)
        return values

    def _without_random(self, circuits: Sequence[Tensor]) -> Floats:
        sets, rows = RandomSets.of(self.test), []
        for kept in circuits:
            draws = torch.Generator().manual_seed(self.seed)
            size = int(kept.sum())
            rows += [~one for one in sets.draw(size, RANDOM_SETS, draws)]
        losses = evaluate_circuits(_measuring(self.test, TASK_LOSS), rows).values[TASK_LOSS]
        means: Floats = losses.reshape(len(circuits), RANDOM_SETS, -1).mean(1)
        return means

    def _moved(self, circuits: Sequence[Tensor]) -> Floats:
        setup = on_interchange(self.test, self.seed)
        assert setup is not None
        examples = evaluate_circuits(setup, [~kept for kept in circuits])
        clean, patched = examples.plain["metric"], examples.values["metric"]
        shares = moved_share(clean, patched, corrupted_metric(setup))
        if not np.isfinite(shares).all():
            raise HarnessError(
                f"evaluation.measures: {INTERCHANGE} is not defined: the corruption does not "
                "change the model's mean metric"
            )
        return shares


def _measuring(setup: Setup, *measures: str) -> Setup:
    return replace(setup, choices=replace(setup.choices, measures=measures), classes=())
