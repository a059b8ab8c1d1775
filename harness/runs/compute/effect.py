"""The line of verdict before the first cell of a task and model."""

from __future__ import annotations

from collections.abc import Callable

from harness.datasets.kinds import numeric_answers
from harness.evaluation.verdict import verdict
from harness.runs.compute.last import Last
from harness.runs.compute.prepare import Prepared
from harness.runs.plan import Cell
from harness.spec.identity import digest

_TOLD: Last[None] = Last()


def tell_effect(cell: Cell, prepared: Prepared, log: Callable[[str], None]) -> None:
    """Log what the corruption does to the model's metric, once for each task and model.

    It is measured with the first cell's seed; raises as `evaluate_circuits` does.
    """
    key = cell.model_id, digest(cell.identity["task"]), cell.runtime, cell.limit

    def tell() -> None:
        numbers = numeric_answers(cell.task.spec.data)
        log(str(verdict(prepared.test, numbers=numbers)))

    _TOLD.of(key, tell)
