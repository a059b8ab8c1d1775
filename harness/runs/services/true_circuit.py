"""The true circuit of a stored cell whose model is a compiled program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.circuits.ground_truth import GroundTruth, NoGroundTruth
from harness.datasets.open import open_data
from harness.errors import NotFound
from harness.runs.compute.ground_truth import true_circuit
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import obtain_model
from harness.runs.compute.prepare import TEST_SEED, draw, prepare
from harness.runs.plan import Cell, ModelSource, make_cell
from harness.runs.services.lookup import evaluation_of
from harness.runs.store.models import ModelStore
from harness.runs.store.record import PlannedCell
from harness.spec.build import build
from harness.spec.load import Library
from harness.spec.types import CompileModel, Method, Runtime

_LABEL = Method(name="true_circuit", title="The true circuit", kind="random")
"""A cell needs a method; the model and the true circuit do not depend on it."""


def true_circuit_of(
    entry: PlannedCell, library: Library, models: ModelStore, log: Callable[[str], None]
) -> GroundTruth | None:
    """What is true of the model and the evaluation of a cell, from the store or verified anew.

    None where the model is no compiled program, and, with a line in the log, where there is no
    single true circuit or the task is not what it was.
    """
    if entry.identity["model"]["kind"] != "compile":
        return None
    try:
        cell = _cell(entry, library)
        use_runtime(cell.runtime)
        data = open_data(cell.task)
        model = obtain_model(cell, data, models, _silent)
        choices, device = cell.task.spec.evaluation, cell.runtime.device
        prepared = prepare(model, choices, draw(cell, data), device=device, seed=cell.seed)
        pairs = data.pairs("test", choices.test_pairs, TEST_SEED)
        return true_circuit(cell, prepared, pairs, models, _silent)
    except (NoGroundTruth, NotFound) as error:
        log(f"true edges are not marked: {error}")
        return None


def _cell(entry: PlannedCell, library: Library) -> Cell:
    """The cell anew. Raises `NotFound` if the task is gone or now has another model."""
    task = library.task(entry.task)
    task = replace(task, spec=replace(task.spec, evaluation=evaluation_of(entry)))
    spec = build(CompileModel, {"kind": "compile", "hardness": entry.identity["model"]["hardness"]})
    source = ModelSource(spec, entry.model, task.folder)
    runtime = Runtime(**entry.identity["runtime"])
    cell = make_cell(task, source, _LABEL, "method", entry.seed, runtime, entry.limit)
    if cell.model_id != entry.model_id:
        raise NotFound(
            f"task {entry.task!r} or the versions of torch and numpy changed since the cell was "
            "computed, so its program may be another; run it again"
        )
    return cell


def _silent(_text: str) -> None:
    """What is in a cache is not worth a line here."""
