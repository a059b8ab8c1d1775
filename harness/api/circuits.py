"""Circuits: found by a method, and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from harness.api.changes import changed
from harness.api.measures import Measured, Measures
from harness.api.tasks import RESULTS, OpenTask, cell_of, silent
from harness.circuits.baseline import Baseline
from harness.circuits.circuit import Circuit
from harness.circuits.gates.whiteboard import with_ties
from harness.circuits.patchable import baseline_of, self_check
from harness.circuits.select import number_of_elements
from harness.datasets.pairs import PromptPairs
from harness.discovery.problem import Problem
from harness.discovery.refusals import method_problem
from harness.discovery.registry import make_method
from harness.discovery.sizing import checked, circuit_of, ranking_for
from harness.errors import HarnessError
from harness.evaluation.curve import evaluate_circuits
from harness.evaluation.summary import Summary
from harness.models.transformer import Transformer
from harness.runs.compute.background import background_of, constants_of_file
from harness.runs.compute.dictionaries import dictionaries_of
from harness.runs.compute.prepare import Drawn, Prepared, check_lengths, draw, prepare
from harness.runs.store.record import model_store
from harness.spec.build import build, normalise
from harness.spec.types import Method


def discover(
    task: OpenTask,
    model: Transformer,
    method: str = "eap",
    *,
    size: float | int = 0.05,
    seed: int = 0,
    **params: Any,
) -> Circuit:
    """A circuit that a method finds on the task's discovery pairs, with scores of all elements.

    `method`: a spec by name or path; `params` change its parameters. `size`: a share of all
    elements (float), or a number of them (int). Raises `harness.HarnessError` for a method, params
    or a size that the task does not allow.
    """
    spec = _method(task, method, params)
    post_norms = model.config.post_norms
    if refusal := method_problem(spec.kind, spec.params, task.evaluation, post_norms):
        raise HarnessError(refusal)
    setup = prepared(task, model, seed).discovery
    total = len(setup.space)
    n = number_of_elements(size, total)
    problem = Problem(
        setup.patchable,
        setup.batches,
        setup.counterfactuals,
        setup.choices.metric,
        torch.Generator().manual_seed(seed),
        (n,),
    )
    discovery = make_method(spec.kind, spec.params).discover(problem)
    discovery = checked(discovery, setup.space, spec.name)
    kept = circuit_of(discovery, setup.space, n, spec.selection, setup.choices.ablation)
    source = {"task": task.name, "method": spec.name, "seed": str(seed)}
    scores = ranking_for(discovery, n)
    baseline = baseline_of(setup.counterfactuals)
    circuit = Circuit(setup.space, kept, scores, model.config.d_model, source, baseline)
    return with_ties(circuit, model)


def evaluate(
    circuit: Circuit,
    task: OpenTask,
    model: Transformer,
    pairs: PromptPairs | None = None,
    *,
    seed: int = 0,
) -> Measures:
    """Faithfulness and the other measures of a circuit, each with its interval.

    On the task's test pairs, or on `pairs`. Raises `harness.HarnessError` for a circuit of another
    model.
    """
    setup = prepared(task, model, seed, pairs, circuit.baseline).test
    setup.check(circuit)
    everything = torch.ones(len(setup.space), dtype=torch.bool)
    examples = evaluate_circuits(setup, [circuit.kept, ~everything, everything])
    point = Summary(examples, ()).point(0)
    return Measures(
        (name, Measured(one["value"], one["low"], one["high"]))
        for name, one in sorted(point.items(), key=lambda item: item[0] != "faithfulness")
    )


# ---------------------------------------------------------------- inside
def prepared(
    task: OpenTask,
    model: Transformer,
    seed: int,
    pairs: PromptPairs | None = None,
    baseline: Baseline | None = None,
) -> Prepared:
    """As a cell of the task and seed; `pairs` and `baseline` in place of its own."""
    cell = replace(cell_of(task, None), seed=seed)
    drawn, device = draw(cell, task.data), model.embedding.device.type
    if pairs is not None:
        if (longest := int(pairs.lengths.max())) > (context := model.config.n_ctx):
            raise HarnessError(f"prompts of {longest} tokens; the model takes {context} at most")
        drawn = Drawn(drawn.discovery, pairs)
        check_lengths(task.evaluation, drawn)
    codes = dictionaries_of(cell, model, model_store(RESULTS), silent, train=False)
    background = constants_of_file(baseline, task.evaluation.ablation)
    result = prepare(
        model,
        task.evaluation,
        drawn,
        device=device,
        seed=seed,
        classes=task.loaded.spec.answers,
        background=background or background_of(cell, task.data, is_own_model=False),
        dictionaries=codes,
    )
    test, first = result.test, result.test.batches[0]
    self_check(test.patchable, first, test.counterfactuals.of(first))
    return result


def _method(task: OpenTask, name: str, params: Mapping[str, Any]) -> Method:
    source = changed(task.library.method(name).source, "method", "params", params)
    return build(Method, normalise(source.data, "method"))
