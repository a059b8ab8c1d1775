"""Compute one cell: get the model, score its elements, run circuits of all sizes, sum up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import ranks
from harness.circuits.circuit import Circuit
from harness.circuits.files import to_safetensors
from harness.circuits.packed import pack
from harness.circuits.patchable import baseline_of, self_check
from harness.circuits.select import requested_counts
from harness.datasets.open import open_data
from harness.datasets.pairs import TaskData
from harness.datasets.repeats import count_prompts
from harness.discovery.problem import Discovery, Problem
from harness.discovery.registry import make_method
from harness.discovery.sizing import checked, cut_from, ranking_for
from harness.evaluation.curve import Examples
from harness.evaluation.setup import Setup
from harness.evaluation.summary import Summary
from harness.metrics.per_example import with_classes
from harness.metrics.sparsity import sparsity
from harness.metrics.statistics import estimate, shared_resamples
from harness.models.training.quality import quality
from harness.models.transformer import Transformer
from harness.runs.compute.background import background_of, keep_means
from harness.runs.compute.circuits import Ladder, Requested, grid, shares, verified
from harness.runs.compute.cost import Cost, Times, measured, of_all, plain_times, timing
from harness.runs.compute.dictionaries import dictionaries_of
from harness.runs.compute.effect import tell_effect
from harness.runs.compute.ground_truth import compared_with_truth
from harness.runs.compute.last import Last
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import obtain_model
from harness.runs.compute.prepare import TEST_SEED, Prepared, draw, limited, prepare
from harness.runs.compute.searches.trials import discover_by_trials
from harness.runs.nodes.file import nodes_file
from harness.runs.plan import Cell, check_files
from harness.runs.plan.processes import require_processes
from harness.runs.prompts.worst import prompts_file
from harness.runs.store import CellOutput
from harness.runs.store.circuits import ADDITIVE, RANKS, values_of
from harness.runs.store.models import ModelStore
from harness.spec.identity import digest
from harness.spec.types import Task, recorded

QUALITY_PAIRS = 512
"""Held-out pairs per split on which the model itself is judged; fewer where there are fewer."""

BY_SCORE = "by_score"
"""Where `examples.safetensors` has what circuits cut from scores give, beside `curve`."""

Arrays = dict[str, np.ndarray[Any, np.dtype[np.float64]]]

_QUALITY: Last[dict[str, Any]] = Last()
_PLAIN: Last[Times] = Last()

CIRCUIT_FAITHFULNESS = 0.95
"""The circuit that is stored is the smallest measured one this faithful, else the whole graph; or
that of the first target which is a task loss and is reached, where there are any."""


def compute_cell(cell: Cell, models: ModelStore, log: Callable[[str], None]) -> CellOutput:
    """All numbers of a cell. Raises `HarnessError` for a task or model that cannot be measured.

    Of several processes that share its prompts each gets the same numbers (`harness.ranks`).
    """
    require_processes([cell], ranks.world())
    use_runtime(cell.runtime)
    data = open_data(cell.task)
    check_files(cell)
    drawn = draw(cell, data)  # before a model is trained: faults of the pairs are reported first
    model = obtain_model(cell, data, models, log)
    # Trained like the model where they are not there yet, which is no cost of this cell.
    dictionaries = dictionaries_of(cell, model, models, log)
    started = time.perf_counter()
    choices, device = cell.task.spec.evaluation, cell.runtime.device
    answers = cell.task.spec.answers
    prepared = prepare(
        model,
        choices,
        drawn,
        device=device,
        seed=cell.seed,
        classes=answers,
        background=background_of(cell, data, models),
        dictionaries=dictionaries,
    )
    keep_means(cell, baseline_of(prepared.test.counterfactuals))
    test, batch = prepared.test, prepared.test.batches[0]
    self_check(test.patchable, batch, test.counterfactuals.of(batch))
    tell_effect(cell, prepared, log)
    first = ranks.is_first()  # alone it keeps checkpoints
    with models.lock(cell.id) if first else nullcontext():  # another run may hold the same cell
        discovery, cost = _discover(cell, prepared, models.scratch(cell.id) if first else None)
    began = time.perf_counter()
    ladder = Ladder(
        discovery,
        test,
        cell.method.selection,
        pairs=prepared.discovery,
        needed=prepared.needed,
    )
    circuits = ladder.requested()
    examples = ladder.measure(circuits)
    summary = Summary(examples, grid(choices, circuits, len(test.space)))
    sizes_at = ladder.sizes_at(circuits, summary)
    chosen = with_classes(choices.measures, answers)
    settled, arrays = _settled(ladder, chosen)
    evaluation_seconds = time.perf_counter() - began
    truth, agreement = compared_with_truth(cell, prepared, data, discovery, models, log)
    notes = {**test.counterfactuals.notes, **discovery.notes}
    result = _result(cell, prepared, summary, circuits, data) | {
        "summary": summary.areas() | sizes_at,
        "ground_truth": agreement,
        "notes": {name: float(value) for name, value in notes.items()},
        **settled,
    }
    stored = _stored_circuit(cell, test, discovery, circuits, result)
    kept = [one.kept for one in circuits]
    output = CellOutput(
        result,
        {
            "circuit.safetensors": to_safetensors(stored),
            "circuits.safetensors": pack(kept, test.space),
            "examples.safetensors": _example_arrays(examples, chosen) | arrays,
            **prompts_file(test, cell.task.spec, data, stored, kept, examples.values["kl"]),
            **nodes_file(test, cell.task.spec, data, stored, truth),
        },
        {
            **timing(
                cost,
                _plain(cell, prepared.discovery),
                device,
                discovery.earlier_seconds,
                # A checkpoint has that of one process alone.
                discovery.earlier_processor_seconds if ranks.world() == 1 else None,
            ),
            "evaluation_seconds": evaluation_seconds,
            "cell_seconds": time.perf_counter() - started + discovery.earlier_seconds,
        },
    )
    if model.gatherings is not None:
        log(str(model.gatherings))
    return output


# ---------------------------------------------------------------- discovery, circuits
def _discover(cell: Cell, prepared: Prepared, scratch: Path | None) -> tuple[Discovery, Cost]:
    method, search = make_method(cell.method.kind, cell.method.params), cell.method.selection.search
    setup = prepared.discovery
    problem = Problem(
        setup.patchable,
        setup.batches,
        setup.counterfactuals,
        setup.choices.metric,
        torch.Generator().manual_seed(cell.seed),
        tuple(requested_counts(setup.choices, len(setup.space))),
        scratch,
    )
    with measured(cell.runtime.device) as cost:
        discovery = (
            method.discover(problem)
            if search is None
            else discover_by_trials(cell.method, search, problem, prepared, cell.seed)
        )
    return checked(discovery, setup.space, cell.method.name), of_all(cost)


def _plain(cell: Cell, setup: Setup) -> Times:
    """Seconds of one plain forward+backward over a set-up's batches.

    Measured on the largest batch, once for a model and shape, and scaled by the number of tokens.
    """
    largest = max(setup.batches, key=lambda batch: batch.clean.numel())
    key = cell.model_id, cell.runtime, largest.clean.shape
    one = _PLAIN.of(key, lambda: plain_times(setup.model, largest, cell.runtime.device))
    tokens = sum(batch.clean.numel() for batch in setup.batches)
    return one.scaled(tokens / largest.clean.numel())


def _stored_circuit(
    cell: Cell,
    test: Setup,
    discovery: Discovery,
    circuits: Sequence[Requested],
    result: dict[str, Any],
) -> Circuit:
    """The stored circuit, with the scores that circuits of its size are cut from."""
    space, curve = test.space, result["curve"]
    faithful = [
        (one, point)
        for one, point in zip(circuits, curve, strict=True)
        if (value := point["faithfulness"]["value"]) is not None and value >= CIRCUIT_FAITHFULNESS
    ]
    pruned = [each for each in zip(circuits, curve, strict=True) if each[0].is_for_task_loss]
    everything = torch.ones(len(space), dtype=torch.bool)
    whole = Requested(len(space), everything), result["whole"]
    one, point = (
        pruned[0] if pruned else min(faithful, key=lambda each: each[0].size, default=whole)
    )
    scores = ranking_for(discovery, one.n) if one.cut is None else one.cut.scores
    origin = one.cut and one.cut.origin
    source = {
        "task": cell.task.spec.name,
        "model": cell.model_name,
        "method": cell.method.name,
        "cell": cell.id,
        "cut_from": origin or cut_from(discovery, one.n, space.unit),
        "scores": ADDITIVE if discovery.additive else RANKS,
    }
    if cell.dictionaries is not None:
        source["dictionary"] = cell.dictionaries.name
    circuit = Circuit(space, one.kept, scores, test.model.config.d_model, source)
    baseline = baseline_of(test.counterfactuals)
    return (
        circuit
        if baseline is None
        else replace(circuit, baseline=baseline, measured=values_of(point))
    )


# ---------------------------------------------------------------- result
def _result(
    cell: Cell,
    prepared: Prepared,
    summary: Summary,
    circuits: Sequence[Requested],
    data: TaskData,
) -> dict[str, Any]:
    choices, space = prepared.test.choices, prepared.test.space
    discovery = prepared.drawn.discovery
    return {
        **cell.header(),
        "choices": recorded(choices),
        "metric": choices.metric,
        "n_examples": summary.n,
        "n_discovery": len(discovery),
        "n_discovery_prompts": count_prompts(discovery),
        "unit": space.unit,
        "total": len(space),
        "model_quality": _model_quality(cell, prepared.test.model, data),
        "plain": summary.plain(),
        "whole": summary.point(-1),
        "empty": summary.point(-2),
        "curve": _curve(prepared.test, circuits, summary),
        "data_digest": prepared.digests,
        **_not_continued(cell.task.spec),
    }


def _curve(setup: Setup, circuits: Sequence[Requested], summary: Summary) -> list[dict[str, Any]]:
    """A point for each circuit."""
    space = setup.space
    points = zip(shares(setup.choices, circuits, len(space)), circuits, strict=True)
    return [
        {
            "size_requested": share,
            "requested": one.n,
            "target": verified(one.target, measured_at := summary.point(index)),
            "size": one.size,
            "counts": dict(space.counts(one.kept)),
            "sparsity": sparsity(one.size, len(space)),
            **measured_at,
        }
        for index, (share, one) in enumerate(points)
    ]


def _settled(ladder: Ladder, chosen: Sequence[str]) -> tuple[dict[str, Any], Arrays]:
    """Where a method settled on circuits: what its scores give, as those of others do.

    `chosen`: measures that the task adds. The part of the result, and the per-example values;
    both empty for other methods.
    """
    if (cut := ladder.by_score) is None:
        return {}, {}
    setup, circuits = cut.setup, cut.requested()
    examples = cut.measure(circuits)
    summary = Summary(examples, grid(setup.choices, circuits, cut.total))
    part = {
        "circuits": len(ladder.discovery.circuits),
        "arrays": BY_SCORE,
        "curve": _curve(setup, circuits, summary),
        "summary": summary.areas() | cut.sizes_at(circuits, summary),
    }
    arrays = _example_arrays(examples, chosen)
    curve = {
        f"{BY_SCORE}/{name.removeprefix('curve/')}": values
        for name, values in arrays.items()
        if name.startswith("curve/")
    }
    return {"settled": part}, curve


def _not_continued(task: Task) -> dict[str, bool]:
    """That answers need not be how prompts go on, where the task says so."""
    return {"continues": False} if getattr(task.data, "continues", None) is False else {}


def _model_quality(cell: Cell, model: Transformer, data: TaskData) -> dict[str, Any]:
    """How well the model does the task on every split it was not trained on."""
    key = cell.model_id, digest(cell.identity["task"]), cell.runtime, cell.limit
    return _QUALITY.of(key, lambda: _measured_quality(cell, model, data))


def _measured_quality(cell: Cell, model: Transformer, data: TaskData) -> dict[str, Any]:
    by_split, wanted = {}, limited(QUALITY_PAIRS, cell)
    for split in data.splits:
        if split == "train":
            continue
        pairs = data.pairs(split, wanted, TEST_SEED, at_most=True)
        values = quality(model, pairs, cell.runtime.device, shared=True)
        weights = shared_resamples(len(pairs))
        by_split[split] = {
            name: estimate(float(x.mean()), weights @ x.numpy(), len(pairs), "mean")
            for name, x in values.items()
        }
    return by_split


def _example_arrays(examples: Examples, chosen: Sequence[str]) -> Arrays:
    """Per-example values, for paired comparison and intervals over seeds."""
    metric, names = examples.values["metric"], ("metric", "kl", "accuracy", *chosen)
    return {
        **{f"curve/{name}": examples.values[name][:-2] for name in names},
        "empty/metric": metric[-2],
        "whole/metric": metric[-1],
    }
