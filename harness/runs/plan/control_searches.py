"""Cells that repeat another cell's search where it should fail: what its success is worth.

swapped     good answers for bad
nonsense    two tokens that answer no prompt stand for the two sides (Drori 2026)
untrained   the model at its initial weights, under the same budgets
"""

from __future__ import annotations

from dataclasses import replace

from harness.errors import HarnessError
from harness.runs.plan.cells import Cell, ModelSource, make_cell
from harness.spec.types import ControlSearch, TrainModel

TOO_SMALL = 1e-12
"""A learning rate at which a step leaves weights of ordinary size as they are, to the last bit."""


def control_cell(host: Cell, source: ModelSource, search: ControlSearch) -> Cell:
    """The same search, method and seed for other answers, or in the untrained model of `source`.

    It stands in the host's table, called after its method. Raises `HarnessError` where the control
    says nothing, or there is no untrained model.
    """
    task = host.task
    if search == "untrained":
        source = _untrained(source)
    else:
        evaluation = task.spec.evaluation
        if evaluation.answers != "right":
            raise HarnessError(
                f"{host.title()}: control search {search!r} of a search that is a control itself, "
                f"for {evaluation.answers} answers"
            )
        if search == "swapped" and evaluation.ablation == "interchange":
            raise HarnessError(
                f"{host.title()}: control search 'swapped' under ablation 'interchange' always "
                "succeeds, since dropped elements carry the corrupted prompt's answer, which is "
                "the swapped one; choose another ablation"
            )
        evaluation = replace(evaluation, answers=search)
        task = replace(task, spec=replace(task.spec, evaluation=evaluation))
    method = replace(host.method, name=f"{host.method.name}, {search}")
    cell = make_cell(task, source, method, "control", host.seed, host.runtime, host.limit)
    return replace(cell, variant=host.variant, beside=host)


def _untrained(source: ModelSource) -> ModelSource:
    """The model of a spec before its first step, sparse as at the last one."""
    spec = source.spec
    if not isinstance(spec, TrainModel):
        raise HarnessError(
            f"control search 'untrained': model {source.name!r} is not trained from a spec, which "
            "would say how its weights begin; leave this control out"
        )
    training = replace(spec.training, steps=1, learning_rate=TOO_SMALL, warmup_steps=0, target=None)
    return replace(
        source,
        spec=replace(spec, training=training, weights=None),
        name=f"{source.name} untrained",
    )
