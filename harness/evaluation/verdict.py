"""Whether there is anything to explain: what ablating everything does to metric and accuracy.

Torch is imported only where circuits are run, so that tables of stored results can ask as well.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from harness.metrics.statistics import estimate, interval, shared_resamples

if TYPE_CHECKING:
    from harness.evaluation.references import References
    from harness.evaluation.setup import Setup

ROUNDING = 1e-6
"""A metric that moves by less has not moved."""

RIGHT = 0.9
"""With at least this accuracy the answers count as right, with and without the circuit alike."""

MOVED = 0.1
"""Where answers are right either way, the share of the metric that has to move."""

EDGES = "edges"

_CHOICE = "choice_accuracy"
_Z = 1.96
_REPLACED = {"interchange": "corruption", "resample": "ablation with other prompts"}


@dataclass(frozen=True)
class Verdict:
    """How far the empty circuit is from the model: m(M) − m(∅), with its 95 % interval.

    `accuracies`: of the model and of the empty circuit; None where the answers are numbers.
    `faults`: why circuits of this task and model explain nothing; such circuits are not ranked.
    `unit`: what was dropped: without its edges a model is that of the corrupted prompt, without its
    channels not, as embeddings are none.
    """

    metric: str
    ablation: str
    moved: float
    low: float
    high: float
    accuracies: tuple[float, float] | None
    faults: tuple[str, ...]
    unit: str = EDGES

    def __str__(self) -> str:
        """One line: what moves the metric by how much, both accuracies, and the first fault."""
        half = (self.high - self.low) / 2
        text = f"{self._cause} moves {self.metric} by {with_half_width(self.moved, half)}"
        if self.accuracies is not None:
            whole, empty = self.accuracies
            text += f"; accuracy {whole:.3f} of the model, {empty:.3f} of the empty circuit"
        return text + "".join(f": {fault}" for fault in self.faults[:1])

    @property
    def _cause(self) -> str:
        if self.unit != EDGES:
            return f"{self.ablation} ablation of all {self.unit}"
        return _REPLACED.get(self.ablation, f"{self.ablation} ablation")


def judged_by(measures: Collection[str]) -> str:
    """The measure that says whether a model can do a task which has these measures.

    Where a task asks for the choice between two answers, other tokens may well be likelier.
    """
    return _CHOICE if _CHOICE in measures else "accuracy"


def verdict(
    setup: Setup, references: References | None = None, *, numbers: bool = False
) -> Verdict:
    """Run the model and the empty circuit on the set-up's pairs.

    `references` are those of the set-up's batches, where they are needed again. `numbers`: whether
    answers are numbers, which have no accuracy. Raises as `evaluate_circuits` does.
    """
    import torch

    from harness.evaluation.curve import evaluate_circuits

    name = judged_by(setup.choices.measures)
    measures: Any = (name,) if name in setup.choices.measures else ()
    alone = replace(setup, choices=replace(setup.choices, measures=measures))
    nothing = torch.zeros(len(setup.space), dtype=torch.bool)
    examples = evaluate_circuits(alone, [nothing], references)
    whole, empty = examples.plain, examples.row(0)
    weights = shared_resamples(setup.n)
    accuracies = [
        estimate(row[name].mean(), weights @ row[name], setup.n, "mean") for row in (whole, empty)
    ]
    return verdict_of(
        setup.choices.metric,
        setup.choices.ablation,
        whole["metric"],
        empty["metric"],
        None if numbers else (accuracies[0], accuracies[1]),
        setup.space.unit,
    )


def verdict_of(
    metric: str,
    ablation: str,
    whole: ArrayLike,
    empty: ArrayLike,
    accuracies: tuple[Mapping[str, Any], Mapping[str, Any]] | None,
    unit: str = EDGES,
) -> Verdict:
    """The verdict on metrics [n] of the model and of the empty circuit, pair by pair.

    `accuracies` are estimates as in `result.json`. A fault is an interval of m(M) − m(∅) that holds
    zero, and an accuracy that is not above the empty circuit's. The latter is none where the
    answers are right in both and the metric moves by at least `MOVED` of its size: in
    `greater_than` every year is right after the corrupted prompt.
    """
    w, e = np.asarray(whole, np.float64), np.asarray(empty, np.float64)
    moved = float((w - e).mean())
    low, high = interval(shared_resamples(len(w)) @ (w - e))
    verdict = Verdict(metric, ablation, moved, low, high, None, (), unit)
    if accuracies is not None:
        verdict = replace(
            verdict, accuracies=(accuracies[0]["value"] or 0.0, accuracies[1]["value"] or 0.0)
        )
    faults = []
    if not np.isfinite([moved, low, high]).all():
        faults.append(f"{metric} is not a finite number on every pair, so nothing is explained")
    if low <= 0 <= high or abs(moved) < ROUNDING:
        faults.append(f"the model's {metric} is that of the empty circuit, so nothing is explained")
    size = max(abs(w.mean()), abs(e.mean()))
    if accuracies is not None and not _above(*accuracies):
        right = min(accuracies[0]["value"] or 0.0, accuracies[1]["value"] or 0.0) >= RIGHT
        if not (right and abs(moved) >= MOVED * size):
            faults.append("the model's accuracy is not above the empty circuit's")
    return replace(verdict, faults=tuple(faults))


def _above(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether an estimate is above another, with 95 % confidence."""
    half = _Z * math.hypot(one["se"] or 0.0, other["se"] or 0.0)
    return (one["value"] or 0.0) - (other["value"] or 0.0) > half


def with_half_width(value: float, half: float) -> str:
    """`12.1 ± 0.4`: as many digits as the first one of the half width needs."""
    digits = 3 if not half > 0 else min(6, max(0, math.ceil(-math.log10(half))))
    return f"{round(value, digits) + 0.0:.{digits}f} ± {half:.{digits}f}"
