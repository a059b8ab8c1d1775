"""Run circuits of many sizes on the same prompts: per-example values for every measure.

The counterfactual of a batch is run once; all circuits of all sizes go through the patched pass
together, in chunks that fit a memory budget: circuits of like size in one, since a chunk runs the
nodes of all its circuits. Equal circuits (small ones are often empty once dead ends are removed)
are run once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness import ranks
from harness.errors import HarnessError
from harness.evaluation.references import References
from harness.evaluation.setup import Setup
from harness.metrics.per_example import PerExample
from harness.progress import stage

Floats = NDArray[np.float64]

BUFFER = 2**26
"""Numbers in the passes of all masks that run together, logits too: 256 MiB in float32."""

LOGIT_COPIES = 8
"""Copies of the logits that live while measures are taken, in numbers (double counts twice)."""


@dataclass(frozen=True)
class Examples:
    """Values [C, n] of C circuits on n prompt pairs by name (`PerExample`).

    `plain`: those of the model itself, run as it is [n].
    """

    values: dict[str, Floats]
    plain: dict[str, Floats]

    def row(self, index: int) -> dict[str, Floats]:
        """Values [n] of one circuit."""
        return {name: array[index] for name, array in self.values.items()}


class NotFinite(HarnessError):
    """A measure of a circuit is not a finite number."""


def evaluate_circuits(
    setup: Setup, circuits: Sequence[Tensor], references: References | None = None
) -> Examples:
    """Run every circuit (bool [E]) on every prompt pair; all else is ablated.

    `references` are those of the set-up's batches, where they are needed more than once. Raises
    `NotFinite` naming the first prompt pair for which a measure is not finite, `HarnessError` if
    the task chose a measure over ordered answers and has none (`PerExample`).
    """
    patchable, choices = setup.patchable, setup.choices
    measures = PerExample.of(setup.batches, choices.metric, choices.measures, setup.classes)
    unique, place = _unique(circuits)
    masks = torch.stack(unique)
    # The last row is the model's own.
    missing = np.nan if ranks.world() == 1 else 0.0
    table = {name: np.full((len(unique) + 1, setup.n), missing) for name in measures.names}
    with stage("evaluation", len(masks) * len(setup.batches), "run") as shown:
        for batch, counterfactual, whole, most, counts in references or References(setup):
            rows = batch.rows.cpu().numpy()
            tokens, logits_each = batch.clean.shape[1], whole.shape[1] * whole.shape[2]
            numbers = patchable.numbers(most * tokens) + LOGIT_COPIES * most * logits_each
            chunk = max(1, BUFFER // numbers)

            def fill(start: int, logits: Tensor) -> None:
                if not counts:  # noqa: B023
                    return
                for name, value in measures.read(logits, whole, batch).items():  # noqa: B023
                    some = slice(start, start + len(logits))
                    table[name][some, rows] = value.double().cpu().numpy()  # noqa: B023

            for start in range(0, len(masks), chunk):
                part = masks[start : start + chunk].to(whole.device)
                fill(start, patchable.logits(batch, part, counterfactual))
                shown.advance(len(part))
            fill(len(masks), whole[None])
    table = _of_all_rows(table)
    _check_finite(table)
    table = measures.finished(table)
    values = {name: array[place] for name, array in table.items()}
    return Examples(values, {name: array[-1] for name, array in table.items()})


def _of_all_rows(table: dict[str, Floats]) -> dict[str, Floats]:
    """The values [R, n] of all rows, of which each of several processes has its own."""
    if ranks.world() == 1:
        return table
    filled = np.stack([*table.values()])  # a row that is another's is 0 here
    summed = ranks.summed(torch.from_numpy(filled)).numpy()
    return dict(zip(table, summed, strict=True))


def _check_finite(values: dict[str, Floats]) -> None:
    for name, array in values.items():
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            raise NotFinite(
                f"{name} of test pair {bad[0, 1]} is not a finite number: the model's logits "
                "overflow there, its good and bad answers are the same, or all answers tie"
            )


def key_of(kept: Tensor) -> bytes:
    """Equal for equal circuits of one space."""
    return np.packbits(kept.cpu().numpy()).tobytes()


def _unique(circuits: Sequence[Tensor]) -> tuple[list[Tensor], list[int]]:
    """Distinct circuits, the smallest first, and for each circuit its place among them."""
    keys = [key_of(kept) for kept in circuits]
    distinct = dict(zip(keys, circuits, strict=True))
    ordered = sorted(distinct, key=lambda key: int(distinct[key].sum()))
    places = {key: place for place, key in enumerate(ordered)}
    return [distinct[key].cpu() for key in ordered], [places[key] for key in keys]
