"""Under which evaluations a suite runs its tasks, and which cells it leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.spec.granularity import (
    BY_GRANULARITY,
    dictionary_problem,
    granularity,
    refused,
)
from harness.spec.load import Library, Loaded
from harness.spec.types import HOW_LARGE, Evaluation, EvaluationChange, Suite, Task


def _changes(change: EvaluationChange) -> dict[str, Any]:
    """The fields that a change of the evaluation sets, by name."""
    values = {field.name: getattr(change, field.name) for field in fields(change)}
    return {name: value for name, value in values.items() if value is not None}


def _complete(changes: dict[str, Any]) -> dict[str, Any]:
    """The changes, and no other way to say how large circuits are where they say it."""
    if not changes.keys() & set(HOW_LARGE):
        return changes
    return {"counts": None, "targets": None} | changes


def _other_granularity(changes: dict[str, Any]) -> dict[str, Any]:
    """The changes, and of another granularity the component that it has by default."""
    if "granularity" not in changes:
        return changes
    info = granularity(changes["granularity"])
    return {"component": info.components[0], "dictionary": None} | changes


def _problem(evaluation: Evaluation, changes: dict[str, Any]) -> str | None:
    """Why the changed evaluation cannot be used; another granularity has to allow all of it."""
    name = evaluation.granularity
    if "granularity" not in changes and "dictionary" not in changes:
        return refused(name, changes)
    chosen = {one: getattr(evaluation, one) for one in BY_GRANULARITY}
    return refused(name, chosen) or dictionary_problem(name, evaluation.dictionary)


def variants(task: Loaded[Task], spec: Suite) -> list[tuple[str, Loaded[Task]]]:
    """The task under each evaluation of the suite, with what was changed in words."""
    distinct: dict[Evaluation, tuple[str, Loaded[Task]]] = {}
    for change in spec.evaluations or (EvaluationChange(),):
        changed = _changes(change)
        evaluation = replace(task.spec.evaluation, **_complete(_other_granularity(changed)))
        problem = _problem(evaluation, changed)
        if problem is not None:
            raise HarnessError(f"suite {spec.name!r}, task {task.spec.name!r}: {problem}")
        # What is measured besides makes no other circuits.
        said = {name: value for name, value in changed.items() if name != "measures"}
        words = ", ".join(f"{name} {value}" for name, value in said.items())
        varied = replace(task, spec=replace(task.spec, evaluation=evaluation))
        distinct.setdefault(evaluation, (words, varied))  # equal ones are one computation
    return list(distinct.values())


def variants_with_dictionaries(
    task: Loaded[Task], suite: Loaded[Suite], library: Library
) -> list[tuple[str, Loaded[Task]]]:
    """As `variants`, with the dictionaries that each evaluation names.

    Raises `NotFound` or `SpecError` for these too.
    """
    own = task.spec.evaluation.dictionary
    return [
        (words, one)
        if one.spec.evaluation.dictionary == own
        else (words, library.with_dictionary(one, suite.folder))
        for words, one in variants(task, suite.spec)
    ]


def excluded(
    spec: Suite, task_ref: str, model_ref: str | None, method: str, evaluation: Evaluation
) -> bool:
    """Whether the suite leaves out this cell; a method's file is named as its spec.

    `model_ref` is None for a task's own model, which no exclusion can name.
    """
    return any(
        one.task in (None, task_ref)
        and one.model in (None, model_ref)
        and (one.method is None or Path(one.method).stem == method)
        and _agrees(evaluation, one.evaluation)
        for one in spec.exclude
    )


def apart(spec: Suite, task_ref: str, model_ref: str) -> bool:
    """Whether the suite leaves out a task on a model for every method and evaluation."""
    return any(
        one.task in (None, task_ref)
        and one.model in (None, model_ref)
        and one.method is None
        and one.evaluation == EvaluationChange()
        for one in spec.exclude
    )


def _agrees(evaluation: Evaluation, change: EvaluationChange) -> bool:
    return all(getattr(evaluation, name) == value for name, value in _changes(change).items())


def refuse_idle_exclusions(
    spec: Suite, varied: Mapping[str, Sequence[tuple[str, Loaded[Task]]]]
) -> None:
    """Refuse an exclusion that matches no evaluation of the suite."""
    for index, one in enumerate(spec.exclude):
        evaluations = (
            task.spec.evaluation
            for ref, versions in varied.items()
            for _, task in versions
            if one.task in (None, ref)
        )
        if not any(_agrees(evaluation, one.evaluation) for evaluation in evaluations):
            wanted = ", ".join(f"{k} {v}" for k, v in _changes(one.evaluation).items())
            raise HarnessError(
                f"suite {spec.name!r}: exclude.{index} leaves out nothing: no evaluation of its "
                f"tasks has {wanted}"
            )
