"""Task losses of circuits after calibration on other prompts (`harness.metrics.calibration`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from harness.datasets.batch import Batch
from harness.errors import HarnessError
from harness.evaluation.curve import Examples, Floats, evaluate_circuits
from harness.evaluation.references import References
from harness.evaluation.setup import Setup
from harness.metrics.calibration import Calibration

MEASURE = "calibrated_task_loss"
ODDS = "log_odds"


@dataclass(frozen=True)
class Sides:
    """On which side of the choice the good answers of n prompts are: 1 first, -1 second [n].

    `answers`: the different pairs of answers. Beyond one no answer is the first of all prompts, so
    that calibration has a scale alone.
    """

    first: Floats
    answers: frozenset[tuple[bytes, ...]]

    @classmethod
    def of(cls, batches: Iterable[Batch]) -> Sides:
        """Of all prompts, in their order. Raises `HarnessError` for several read positions."""
        parts = list(batches)
        first = np.ones(sum(len(batch) for batch in parts))
        pairs: set[tuple[bytes, ...]] = set()
        for batch in parts:
            if bool((batch.read.sum(-1) != 1).any()):
                raise HarnessError(
                    f"evaluation.measures: {MEASURE} needs prompts that are read at one position"
                )
            place = batch.read.long().argmax(-1)
            at = torch.arange(len(batch), device=place.device)
            for row, good, bad in zip(
                batch.rows.tolist(), batch.good[at, place], batch.bad[at, place], strict=True
            ):
                sets = [np.unique(x[x >= 0].cpu().numpy()).tobytes() for x in (good, bad)]
                pairs.add(tuple(sorted(sets)))
                first[row] = 1 if sets[0] <= sets[1] else -1
        return cls(first, frozenset(pairs))

    def same_choice(self, other: Sides) -> bool:
        """Whether all prompts of both are a choice between the same two answers."""
        return len(self.answers) == 1 and self.answers == other.answers


def calibrated(
    test: Setup, search: Setup, circuits: Sequence[Tensor], odds: Floats, plain: Floats
) -> tuple[Floats, Floats]:
    """Calibrated task losses of circuits [C, n] and of the model itself [n], on the test pairs.

    `odds` [C, n] and `plain` [n] are their log odds there; each is calibrated on the pairs of
    `search`. Raises `HarnessError` for prompts that are read at several positions.
    """
    here, there = Sides.of(test.batches), Sides.of(search.batches)
    alone = replace(search, choices=replace(search.choices, measures=(ODDS,)), classes=())
    fitted_on = evaluate_circuits(alone, circuits)
    shifted = here.same_choice(there)

    def losses(seen: Floats, measured: Floats) -> Floats:
        return Calibration.fit(seen, there.first, shifted=shifted).losses(measured, here.first)

    rows = [losses(*both) for both in zip(fitted_on.values[ODDS], odds, strict=True)]
    return np.stack(rows), losses(fitted_on.plain[ODDS], plain)


def with_calibration(
    test: Setup, search: Setup, circuits: Sequence[Tensor], references: References | None = None
) -> Examples:
    """As `evaluate_circuits`, with the calibrated task loss if the choices ask for it."""
    chosen = test.choices.measures
    if MEASURE not in chosen:
        return evaluate_circuits(test, circuits, references)
    more = tuple(dict.fromkeys((*chosen, ODDS)))
    wide = replace(test, choices=replace(test.choices, measures=more))
    examples = evaluate_circuits(wide, circuits, references)
    rows, plain = calibrated(test, search, circuits, examples.values[ODDS], examples.plain[ODDS])
    values, of_model = examples.values | {MEASURE: rows}, examples.plain | {MEASURE: plain}
    if ODDS not in chosen:
        del values[ODDS], of_model[ODDS]
    return Examples(values, of_model)
