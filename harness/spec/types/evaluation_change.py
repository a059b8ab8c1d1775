"""What a suite may change in its tasks' evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from harness.spec.key import About, Key
from harness.spec.types.evaluation import ONE_HOW_LARGE, CircuitTarget, Count, Evaluation, Size
from harness.spec.types.names import (
    Ablation,
    EdgePositions,
    ExtraMeasure,
    HeadBias,
    Inputs,
    KeyValueEdges,
    Metric,
)
from harness.spec.types.scalars import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationChange:
    """What a suite changes in its tasks' evaluation; None leaves the task's own choice.

    Its fields are those of `Evaluation` that are `changeable`, with their keys (a test compares
    them); one that is annotated here has a key of its own.
    """

    ABOUT: ClassVar = About(
        "Change of the evaluation",
        "Replaces choices of a task's evaluation; null leaves the task's own.",
        changes=Evaluation,
        part="grid",
        rules=ONE_HOW_LARGE,
    )

    granularity: str | None = None
    component: str | None = None
    dictionary: Text | None = None
    ablation: Ablation | None = None
    positions: EdgePositions | None = None
    inputs: Inputs | None = None
    head_bias: HeadBias | None = None
    key_value_edges: KeyValueEdges | None = None
    answers: Literal["right", "swapped", "nonsense"] | None = None
    metric: Metric | None = None
    measures: tuple[ExtraMeasure, ...] | None = None
    sizes: Annotated[
        tuple[Size, ...] | None,
        Key(
            "Sizes",
            "Circuit sizes as shares of all elements, ascending.",
            [[0.01, 0.03, 1.0]],
            min_items=2,
            unique=True,
        ),
    ] = None
    counts: tuple[Count, ...] | None = None
    targets: tuple[CircuitTarget, ...] | None = None
    searched_on: Literal["test", "discovery"] | None = None
    margin: float | None = None
    discovery_pairs: int | None = None
    discovery_repeats: bool | None = None
    test_pairs: int | None = None
