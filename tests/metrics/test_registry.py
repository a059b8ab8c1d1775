"""The registry says all there is to say of a measure, and specs and results agree with it."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from harness.metrics import (
    DISTANCES,
    EXTRA_MEASURES,
    LOSSES,
    MEASURES,
    NEGATED,
    OBJECTIVES,
    RECORDED,
    TASK_METRICS,
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
from harness.metrics.measure import Inputs, Measure, Role
from harness.metrics.registry import from_logits
from harness.spec import types
from harness.spec.schema import load_schema

FAMILIES = (
    curve,
    logits,
    class_accuracy,
    calibration,
    ordered_answers,
    sparsity,
    ground_truth,
    overlap,
    sequences,
    necessity,
)
OF_LOGITS = ("logits", "logits of circuit and model")


def test_no_name_is_used_twice() -> None:
    assert len(MEASURES) == sum(len(family.MEASURES) for family in FAMILIES)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=lambda one: one.name)
def test_a_measure_says_what_it_is(measure: Measure) -> None:
    assert measure.title
    assert measure.formula
    assert measure.source
    assert measure.arrow in {"↑", "↓", ""}
    assert callable(measure.compute)
    assert measure.computed_from in get_args(Inputs)
    assert measure.roles <= set(get_args(Role))
    if measure.roles & {"metric", "objective", "recorded"}:
        assert measure.computed_from in OF_LOGITS
    assert "compute" not in measure.record()


def test_what_is_no_measure_of_logits_is_not_read_from_them() -> None:
    with pytest.raises(ValueError, match="cmd is computed from faithfulness by size"):
        from_logits("cmd")


def test_losses_fall_where_measures_improve() -> None:
    assert set(LOSSES) == set(OBJECTIVES) - {"metric"}
    assert {name for name in LOSSES if MEASURES[name].better == "up"} == NEGATED
    assert {"logit_diff", "prob_diff"} == NEGATED


def test_specs_offer_what_the_registry_has() -> None:
    assert get_args(types.Metric) == TASK_METRICS
    assert get_args(types.Objective) == OBJECTIVES
    assert get_args(types.ExtraMeasure) == EXTRA_MEASURES
    assert {"kl", "squared_error"} == DISTANCES


def test_schemas_offer_what_the_registry_has() -> None:
    evaluation = load_schema("task")["$defs"]["evaluation"]["properties"]
    assert tuple(evaluation["metric"]["enum"]) == TASK_METRICS
    assert tuple(evaluation["measures"]["items"]["enum"]) == EXTRA_MEASURES
    objective = load_schema("method")["$defs"]["objective"]["properties"]["objective"]
    assert tuple(objective["enum"]) == OBJECTIVES


def test_results_have_what_is_recorded() -> None:
    result = load_schema("result")
    assert tuple(result["properties"]["metric"]["enum"]) == TASK_METRICS
    names = {*RECORDED, "faithfulness"}
    of_size = {"size_requested", "requested", "target", "size", "counts", "sparsity"}
    for part, others in (("measured", set()), ("point", of_size)):
        schema = result["$defs"][part]
        assert set(schema["required"]) == set(schema["properties"]) == names | others
        assert schema["additionalProperties"] == {"$ref": "#/$defs/estimate"}  # chosen measures
    areas = {name for name in result["$defs"]["summary"]["properties"] if "size_at" not in name}
    assert areas == set(curve.AREAS)


def test_names_are_read_without_torch_and_scipy() -> None:
    code = (
        "import sys, harness.metrics, harness.metrics.per_example, harness.metrics.statistics\n"
        "print([name for name in ('torch', 'scipy', 'polars') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
