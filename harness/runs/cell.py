"""Compute one cell: get the model, score its edges, run circuits of all sizes, sum up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.edges.counterfactuals import References
from harness.circuits.edges.patched.forward import self_check
from harness.circuits.edges.select import sizes_to_counts
from harness.circuits.files import to_safetensors
from harness.circuits.packed import pack
from harness.datasets.open import open_data
from harness.datasets.pairs import TaskData
from harness.datasets.repeats import count_prompts
from harness.discovery.found import checked, circuit_of, cut_from, ranking_for
from harness.discovery.problem import Discovery, Problem
from harness.discovery.registry import make_method
from harness.errors import HarnessError, StoreCorrupt
from harness.evaluation.curve import Examples, evaluate_circuits
from harness.evaluation.ordered_answers import OrderedAnswers
from harness.evaluation.statistics import estimate, shared_resamples
from harness.evaluation.summary import Summary
from harness.models.train import quality
from harness.runs.atomic import remove_folder
from harness.runs.circuits import ADDITIVE, RANKS
from harness.runs.cost import Cost, measured, plain_seconds
from harness.runs.known import known_agreement
from harness.runs.machine import use_runtime
from harness.runs.models import ModelStore
from harness.runs.obtain import obtain_model
from harness.runs.plan import Cell, check_files
from harness.runs.setting import (
    TEST_SEED,
    Setting,
    draw,
    limited,
    prepare,
    references_of,
)
from harness.runs.store import CellOutput
from harness.runs.truth import true_circuit
from harness.spec.types import CHOICES, CompileModel

QUALITY_PAIRS = 512
"""Held-out pairs per split on which the model itself is judged; fewer where there are fewer."""

CIRCUIT_FAITHFULNESS = 0.95
"""The circuit that is stored is the smallest measured one this faithful, else the whole graph."""


def compute_cell(cell: Cell, models: ModelStore, log: Callable[[str], None]) -> CellOutput:
    """All numbers of a cell. Raises `HarnessError` for a task or model that cannot be measured."""
    use_runtime(cell.runtime)
    data = open_data(cell.task)
    check_files(cell)
    drawn = draw(cell, data)  # what is wrong with them is said before a model is trained
    model = obtain_model(cell, data, models, log)
    setting = prepare(cell, drawn, model)
    # Refused before the search, not after it.
    OrderedAnswers.of(setting.test, setting.choices.measures)
    references = references_of(setting.patched, setting.choices, setting.discovery, cell.seed)
    first = setting.test[0]
    self_check(setting.patched, first, references.of(first))
    with models.lock(cell.id):  # another run may hold the same cell; checkpoints are shared
        found, cost = _discover(setting, references, models.scratch(cell.id))
    seconds = cost.seconds + found.earlier_seconds
    began = time.perf_counter()
    circuits = _circuits(setting, found)
    examples = _evaluate(setting, circuits, references)
    evaluation_seconds = time.perf_counter() - began
    sizes = [int(kept.sum()) for kept in circuits]
    summary = Summary(examples, setting.choices.sizes, sizes)
    result = _result(setting, summary, sizes, data) | {
        "known": _known(setting, data, references, found, models, log),
        "notes": {
            name: float(value) for name, value in {**references.notes, **found.notes}.items()
        },
    }
    remove_folder(models.scratch(cell.id))
    return CellOutput(
        result,
        {
            "circuit.safetensors": to_safetensors(_kept_circuit(setting, found, circuits, result)),
            "circuits.safetensors": pack(circuits, setting.graph),
            "examples.safetensors": _example_arrays(examples, setting.choices.measures),
        },
        {
            "seconds": seconds,
            "peak_mib": cost.peak_mib,
            "cost_fb": seconds / plain_seconds(model, setting.discovery, cell.runtime.device),
            "evaluation_seconds": evaluation_seconds,
        },
    )


# ---------------------------------------------------------------- discovery, circuits
def _discover(setting: Setting, references: References, scratch: Path) -> tuple[Discovery, Cost]:
    cell = setting.cell
    method = make_method(cell.method.kind, cell.method.params)
    problem = Problem(
        setting.patched,
        setting.discovery,
        references,
        setting.choices.metric,
        torch.Generator().manual_seed(cell.seed),
        tuple(sizes_to_counts(setting.choices.sizes, setting.graph.n_edges)),
        scratch,
    )
    with measured(cell.runtime.device) as cost:
        found = method.discover(problem)
    return checked(found, setting.graph, cell.method.name), cost


def _circuits(setting: Setting, found: Discovery) -> list[Tensor]:
    graph = setting.graph
    return [
        circuit_of(found, graph, n, setting.cell.method.selection, setting.choices.ablation)
        for n in sizes_to_counts(setting.choices.sizes, graph.n_edges)
    ]


def _known(
    setting: Setting,
    data: TaskData,
    references: References,
    found: Discovery,
    models: ModelStore,
    log: Callable[[str], None],
) -> dict[str, Any] | None:
    """Agreement with the true circuit where the model is a compiled program.

    The truth is that of all test pairs, also in a smoke run; where there is none, the log says why.
    """
    if not isinstance(setting.cell.model, CompileModel):
        return None
    pairs = data.pairs("test", setting.choices.test_pairs, TEST_SEED)
    try:
        known = true_circuit(setting, pairs, references, models, log)
    except StoreCorrupt:
        raise
    except HarnessError as error:
        log(f"not compared with a true circuit: {error}")
        return None
    return known_agreement(known, found, setting.cell.method.selection, setting.choices.ablation)


def _evaluate(setting: Setting, circuits: list[Tensor], references: References) -> Examples:
    """Rows: the circuits of all sizes, the empty circuit, all edges."""
    allowed = setting.graph.allowed
    return evaluate_circuits(
        setting.patched,
        setting.test,
        references,
        [*circuits, torch.zeros_like(allowed), allowed],
        setting.choices,
    )


def _kept_circuit(
    setting: Setting, found: Discovery, circuits: list[Tensor], result: dict[str, Any]
) -> Circuit:
    """The stored circuit, with the scores that circuits of its size are cut from."""
    curve, n_edges = result["curve"], setting.graph.n_edges
    faithful = [
        (point["size"], point["edges_requested"], kept)
        for kept, point in zip(circuits, curve, strict=True)
        if (value := point["faithfulness"]["value"]) is not None and value >= CIRCUIT_FAITHFULNESS
    ]
    whole = (n_edges, n_edges, setting.graph.allowed)
    _, requested, kept = min(faithful, key=lambda one: one[0], default=whole)
    scores = ranking_for(found, requested)
    cell = setting.cell
    source = {
        "task": cell.task.spec.name,
        "model": cell.model_name,
        "method": cell.method.name,
        "cell": cell.id,
        "cut_from": cut_from(found, requested),
        "scores": ADDITIVE if found.additive else RANKS,
    }
    return Circuit(setting.graph, kept, scores, setting.model.config.d_model, source)


# ---------------------------------------------------------------- result
def _result(setting: Setting, summary: Summary, sizes: list[int], data: TaskData) -> dict[str, Any]:
    choices, n_edges = setting.choices, setting.graph.n_edges
    points = zip(choices.sizes, sizes_to_counts(choices.sizes, n_edges), sizes, strict=True)
    return {
        **setting.cell.header(),
        "choices": {name: getattr(choices, name) for name in CHOICES},
        "metric": choices.metric,
        "n_examples": summary.n,
        "n_discovery": len(setting.discovery.pairs),
        "n_discovery_prompts": count_prompts(setting.discovery.pairs),
        "edges_total": n_edges,
        "model_quality": _model_quality(setting, data),
        "whole": summary.point(-1),
        "empty": summary.point(-2),
        "curve": [
            {
                "size_requested": share,
                "edges_requested": requested,
                "size": size,
                "sparsity": 1 - size / n_edges,
                **summary.point(index),
            }
            for index, (share, requested, size) in enumerate(points)
        ],
        "summary": summary.areas(),
        "data_digest": setting.digests,
    }


def _model_quality(setting: Setting, data: TaskData) -> dict[str, Any]:
    """How well the model does the task on every split it was not trained on."""
    found = {}
    wanted = limited(QUALITY_PAIRS, setting.cell)
    for split in data.splits:
        if split == "train":
            continue
        pairs = data.pairs(split, wanted, TEST_SEED, at_most=True)
        values = quality(setting.model, pairs, setting.cell.runtime.device)
        weights = shared_resamples(len(pairs))
        found[split] = {
            name: estimate(float(x.mean()), weights @ x.numpy(), len(pairs), "mean")
            for name, x in values.items()
        }
    return found


def _example_arrays(
    examples: Examples, chosen: Sequence[str]
) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """Per-example values, for paired comparison and intervals over seeds."""
    metric, names = examples.values["metric"], ("metric", "kl", "accuracy", *chosen)
    return {
        **{f"curve/{name}": examples.values[name][:-2] for name in names},
        "empty/metric": metric[-2],
        "whole/metric": metric[-1],
    }
