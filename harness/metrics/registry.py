"""All measures by name, and what specs, methods and evaluation choose from.

To add a measure, write its function and its `Measure` in the module of its family; a family whose
functions take other arguments is a new module and one line here. A measure with the role `extra`
can then be named in `evaluation.measures`: it is measured per prompt pair and stands in results,
rows and tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from harness.metrics import (
    calibration,
    class_accuracy,
    curve,
    ground_truth,
    logits,
    necessity,
    ordered_answers,
    overlap,
    sequences,
    sparsity,
)
from harness.metrics.measure import Answers, Measure, Role

if TYPE_CHECKING:
    from torch import Tensor

    OfLogits = Callable[[Tensor, Tensor, Answers], Tensor]
    """(logits [..., B, P, V], the whole model's logits [B, P, V], batch) to [..., B]."""

MEASURES: dict[str, Measure] = {
    one.name: one
    for family in (
        curve,
        logits,
        class_accuracy,
        calibration,
        necessity,
        ordered_answers,
        sparsity,
        ground_truth,
        overlap,
        sequences,
    )
    for one in family.MEASURES
}


def names(role: Role) -> tuple[str, ...]:
    """Measures with a role, in the order of the registry."""
    return tuple(name for name, one in MEASURES.items() if role in one.roles)


def from_logits(name: str) -> OfLogits:
    """A measure of logits, called with the model's logits whether it compares with them or not."""
    measure = MEASURES[name]
    if measure.computed_from == "logits of circuit and model":
        return cast("OfLogits", measure.compute)
    if measure.computed_from == "logits":
        return lambda logits, _, batch: measure.compute(logits, batch)
    raise ValueError(f"{name} is computed from {measure.computed_from}, not from logits")


def _loss(name: str) -> OfLogits:
    value = from_logits(name)
    if MEASURES[name].better == "down":
        return value
    return lambda logits, model_logits, batch: -value(logits, model_logits, batch)


TASK_METRICS = names("metric")
"""What a task can be scored by: the number that faithfulness is a ratio of."""

OBJECTIVES = ("metric", *names("objective"))
"""What a method can attribute or optimise; `metric` is the task's own."""

EXTRA_MEASURES = names("extra")
"""What `evaluation.measures` can add to rows and tables."""

RECORDED = ("metric", *names("recorded"))
"""What every result has of every circuit, besides faithfulness."""

DISTANCES = frozenset(name for name, one in MEASURES.items() if one.distance)
"""Measures that compare with the whole model: there they and their gradients are 0."""

NEGATED = frozenset(name for name in names("objective") if MEASURES[name].better == "up")
"""Losses that are the negative of the measure of their name, which is the larger the better."""

LOSSES: dict[str, OfLogits] = {name: _loss(name) for name in names("objective")}
"""What a method can attribute or optimise, smaller being better."""
