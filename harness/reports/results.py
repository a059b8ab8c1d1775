"""Accessors of stored results: the only place that reads keys of `result.json` that may change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from harness.datasets.kinds import data_kind, numeric_answers
from harness.errors import HarnessError
from harness.evaluation.verdict import judged_by
from harness.metrics import MEASURES
from harness.runs.store.record import StoredCell
from harness.spec.build import build_data

Result = Mapping[str, Any]
SizeAt = Literal["ranking", "grid"]
"""How the smallest faithful circuit was found: along the method's one ranking, or among the
measured circuits, of which it is the smallest: then the size is an upper bound."""


def unit_of(result: Result) -> str:
    """What elements are counted in, plural."""
    unit: str = result["unit"]
    return unit


def total_of(result: Result) -> int:
    """E: elements of the whole space."""
    total: int = result["total"]
    return total


def ground_truth_of(result: Result) -> Result | None:
    """Agreement with the true circuit; None where there is none to compare with."""
    agreement: Result | None = result["ground_truth"]
    return agreement


def size_at_of(results: Sequence[Result]) -> SizeAt:
    """How the sizes of all of them were found: along rankings only if every one was."""
    exact = all(result["summary"]["size_at"] == "ranking" for result in results)
    return "ranking" if exact else "grid"


def sizes_of(result: Result) -> list[float]:
    """The size grid, as requested shares of the whole space.

    Raises `HarnessError` where circuits were searched for targets: then there is no grid.
    """
    if has_targets(result):
        raise HarnessError(
            f"circuits of task {result['task']} were searched for targets, so there is no grid of "
            "sizes; `harness table --full` has them all"
        )
    return [point["size_requested"] for point in result["curve"]]


def has_targets(result: Result) -> bool:
    """Whether circuits are the smallest that reach something, rather than of sizes asked for."""
    return result["curve"][0]["target"] is not None


def all_reached(points: Sequence[Result]) -> bool:
    """Whether circuits reach the target that they were searched for, where there is one."""
    return all(point["target"] is None or point["target"]["reached"] for point in points)


def holds(point: Result) -> bool:
    """Whether a circuit of a target reaches it, on fresh pairs too where it was cut on others."""
    target = point["target"]
    return bool(target["reached"] and target.get("held", True))


def goal_of(point: Result) -> float | None:
    """The measure of the point's target, where it has one."""
    target = point["target"]
    value: float | None = None if target is None else point[target["measure"]]["value"]
    return value


def finest_of(point: Result) -> int | None:
    """Size in the finest unit (weights, else elements); None if the circuit misses its target."""
    size: int = point["counts"].get("weights", point["size"])
    return size if all_reached([point]) else None


def label_of(point: Result) -> str:
    """What a circuit of the curve was asked for: `10%`, `f≥0.95`, `KL≤0.1`, `300`.

    A share that is no round one, as of counts, is given as the number of elements.
    """
    target = point["target"]
    if target is None:
        share = f"{100 * point['size_requested']:.3g}"
        rounds = math.isclose(float(share), 100 * point["size_requested"], rel_tol=1e-9)
        return f"{share}%" if rounds else str(point["requested"])
    if target["measure"] == "faithfulness":
        return f"f≥{target['value']:g}"
    return f"{MEASURES[target['measure']].title}≤{target['value']:g}"


def asking_for_nothing(result: Result) -> int:
    """How many sizes, the smallest ones, ask for no element of so small a space."""
    return sum(point["target"] is None and point["requested"] == 0 for point in result["curve"])


def solved_of(result: Result) -> float | None:
    """Share of test prompts that the model answers rightly: the measure that says if it can.

    Where it was measured, how often the good answer is likelier than the bad one; else how often it
    is the likeliest of all. None where answers are numbers.
    """
    if numeric(result):
        return None
    name = judged_by(result["whole"])
    measured = result["model_quality"]["test"] if name == "accuracy" else result["whole"]
    share: float | None = measured[name]["value"]
    return share


def numeric(result: Result) -> bool:
    """Whether answers are numbers, so that accuracies mean nothing; the stored task knows."""
    data = result["identity"]["task"]["data"]
    # An identity need not hold all that is needed to build the data of other kinds.
    is_program = data_kind(data["kind"]).program is not None
    return is_program and numeric_answers(build_data(data))


def settled_of(results: Sequence[Result]) -> int | None:
    """Most circuits that a method settled on; None where circuits are cut from its scores.

    Results that were stored before this was noted do not say it.
    """
    numbers = [one["settled"]["circuits"] for one in results if one.get("settled")]
    return max(numbers, default=None)


def by_score(cell: StoredCell) -> StoredCell | None:
    """A cell's circuits cut from its scores, where the cell's own are those it settled on.

    There is no agreement with a true circuit in it: the cell's own holds for both.
    """
    if cell.result is None or not (settled := cell.result.get("settled")):
        return None
    result = {**cell.result, "curve": settled["curve"], "summary": settled["summary"]}
    cut = result | {"settled": None, "ground_truth": None, "arrays": settled["arrays"]}
    entry = replace(cell.entry, method=f"{cell.entry.method} by score")
    return replace(cell, result=cut, entry=entry)


def settled_remark(method: str, circuits: int) -> str:
    """What has to be said of a method's areas where it settled on circuits."""
    return (
        f"{method}: its areas are of the {circuits} circuits that it settled on, not of one for "
        f"each size; {method} by score is cut from its scores like others' circuits."
    )
