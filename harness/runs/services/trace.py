"""A prompt's circuit without patching, of a task's model: as plain JSON data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.datasets.concepts import concept_source
from harness.datasets.generators.spec import GeneratorData
from harness.datasets.open import open_data
from harness.datasets.pairs import PromptPairs, TaskData
from harness.dictionaries.dictionary import Dictionary
from harness.dictionaries.sites import site_written
from harness.errors import HarnessError
from harness.interpretation.names import FeatureNames
from harness.models.fit import require_tokens
from harness.models.loading.tokenizer import on_model
from harness.models.transformer import Transformer
from harness.runs.compute.dictionaries import obtain_dictionaries, require_trained
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import Log, obtain_model
from harness.runs.compute.prepare import TEST_SEED
from harness.runs.plan import Cell, ModelSource, make_cell
from harness.runs.plan.dictionaries import PlannedDictionaries
from harness.runs.prompts.words import Outputs, token_text
from harness.runs.services.analyses.names import label_reports, names_in_report
from harness.runs.services.boards import board_after
from harness.runs.store.models import ModelStore
from harness.spec.issues import unknown
from harness.spec.load import Loaded
from harness.spec.types import Method, Runtime, Task
from harness.tracing.document import (
    SCHEMA_VERSION,
    circuit_tracer_data,
    pairs_data,
    trace_data,
)
from harness.tracing.keep import KeepRule
from harness.tracing.parse import PromptOutputs, parse_target
from harness.tracing.query_key import score_pairs
from harness.tracing.run import FrozenRun, MLPCode, frozen_run
from harness.tracing.scores import graph_scores
from harness.tracing.target import Target
from harness.tracing.trace import PromptTrace, trace
from harness.tracing.validity import validity

_LABEL = Method(name="trace", title="A prompt's circuit", kind="random")
"""A cell needs a method; the model and the pairs do not depend on it."""

PAIRS = 20
"""Pairs of parts of an attention score, and parts of either side, that are listed."""

CHANCE_PROMPTS = 8
"""Other prompts whose parts the rule `null` compares with, where there are so many."""


@dataclass(frozen=True)
class TraceRequest:
    """What to trace: prompt `row` of a split (its corrupted twin if `corrupted`), see `trace`.

    `target`: as in `harness.tracing.parse`. `dictionaries`: those of the model that modules are
    taken apart with. `train`: train what is not there yet. `validity`: how many contributions to
    each node are compared with what happens without the part, on `validity_prompts` prompts from
    `row` on. `labels`: a report of `harness features` that names the features, `loose` the least F1
    of names that are no confirmed labels.
    """

    task: Loaded[Task]
    source: ModelSource
    runtime: Runtime
    split: str = "test"
    row: int = 0
    corrupted: bool = False
    target: str | None = None
    keep: KeepRule = field(default_factory=KeepRule)
    nodes: int = 300
    mlps: MLPCode = "neurons"
    dictionaries: PlannedDictionaries | None = None
    above: float | None = None
    train: bool = False
    validity: int = 0
    validity_prompts: int = 1
    labels: Path | None = None
    loose: float = 0.5


@dataclass(frozen=True)
class TraceReport:
    """The graph in the harness's own form, and in that of circuit-tracer."""

    own: Mapping[str, Any]
    circuit_tracer: Mapping[str, Any]


def trace_prompt(request: TraceRequest, models: ModelStore, log: Log) -> TraceReport:
    """Trace one prompt.

    Raises `HarnessError` for splits, prompts and targets that there are not, and for a model that
    would have to be trained first.
    """
    loaded = on_model(request.task, request.source.spec, request.source.folder)
    cell = make_cell(loaded, request.source, _LABEL, "method", 0, request.runtime)
    data = open_data(loaded)
    if request.split not in data.splits:
        raise HarnessError(unknown("split", request.split, data.splits))
    pairs = data.pairs(request.split, loaded.spec.evaluation.test_pairs, TEST_SEED, at_most=True)
    if request.row + request.validity_prompts > len(pairs):
        raise HarnessError(f"split {request.split} has prompts 0 to {len(pairs) - 1}")
    use_runtime(cell.runtime)
    names = _names(request, data)
    model = _model(request, cell, data, models, log)
    require_tokens(model.config, pairs)
    codes = _codes(request, cell, model, models, log)
    run, *others = _runs(request, model, pairs, codes)
    outputs = _outputs(pairs, request.row, model, data, loaded.spec)
    target = parse_target(run, request.target, outputs)
    graph = _traced(request, run, target, others)
    scores, meanings = graph_scores(graph), _meanings(graph, codes, names)
    texts = [token_text(data.tokenizer, token) for token in run.tokens.tolist()]
    graphs = [graph]
    for row in range(request.row + 1, request.row + request.validity_prompts):
        one = replace(request, row=row)
        run, *others = _runs(one, model, pairs, codes)
        outputs = _outputs(pairs, row, model, data, loaded.spec)
        graphs.append(_traced(one, run, parse_target(run, one.target, outputs), others))
    head = {
        "schema_version": SCHEMA_VERSION,
        "task": loaded.spec.name,
        "split": request.split,
        "prompt": request.row,
        "twin": "corrupted" if request.corrupted else "clean",
        "tokens": texts,
        "model": request.source.name,
        "model_id": cell.model_id,
        "dictionary": None if request.dictionaries is None else request.dictionaries.name,
        "dictionary_id": None if request.dictionaries is None else request.dictionaries.id,
        "keep": {"rule": request.keep.kind, "amount": request.keep.amount},
        "board": _board(loaded.spec, texts),
        "pairs": _pairs(run, target),
        "validity": [asdict(row) for row in validity(graphs, request.validity)]
        if request.validity
        else None,
        "validity_prompts": len(graphs),
    }
    slug = f"{loaded.spec.name}-{request.split}-{request.row}"
    return TraceReport(
        {**head, **trace_data(graph, scores, meanings)},
        circuit_tracer_data(graph, scores, meanings, slug, texts),
    )


def _names(request: TraceRequest, data: TaskData) -> FeatureNames | None:
    """Names of the dictionaries' features, if a report of them was given."""
    if request.labels is None or request.dictionaries is None:
        return None
    reports = label_reports([request.labels], [request.dictionaries])
    families = concept_source(data).concept_families
    return names_in_report(reports[request.dictionaries.id], families, request.loose)


def _meanings(
    graph: PromptTrace, codes: Mapping[str, Dictionary], names: FeatureNames | None
) -> list[str]:
    """What each node stands for: its feature's name, "" for what is no feature or has none."""
    if names is None:
        return [""] * len(graph.nodes)
    writers = graph.run.writers
    return [
        names.text(site_written(writers[node.place.writer].name, codes), node.unit)
        if node.kind == "feature" and node.unit is not None
        else ""
        for node in graph.nodes
    ]


def _traced(
    request: TraceRequest, run: FrozenRun, target: Target, others: Sequence[FrozenRun]
) -> PromptTrace:
    return trace(
        run, target, keep=request.keep, nodes=request.nodes, above=request.above, others=others
    )


def _model(
    request: TraceRequest, cell: Cell, data: TaskData, models: ModelStore, log: Log
) -> Transformer:
    if cell.trains and not (request.train or models.exists(cell.model_id)):
        raise HarnessError(
            f"model {cell.model_name} is not trained yet; --train trains and keeps it, as `harness "
            "run` does"
        )
    return obtain_model(cell, data, models, log)


def _codes(
    request: TraceRequest,
    cell: Cell,
    model: Transformer,
    models: ModelStore,
    log: Log,
) -> Mapping[str, Dictionary]:
    """The dictionaries by site, none if none are asked for."""
    planned = request.dictionaries
    if planned is None:
        return {}
    if planned.cell.model_id != cell.model_id:
        raise HarnessError(
            f"dictionaries {planned.name} are of model {planned.cell.model_name} "
            f"[{planned.cell.model_id[:12]}], and the prompt is for {cell.model_name} "
            f"[{cell.model_id[:12]}]"
        )
    if not request.train:
        require_trained(planned, models)
    return obtain_dictionaries(planned, model, models, log)


def _runs(
    request: TraceRequest, model: Transformer, pairs: PromptPairs, codes: Mapping[str, Dictionary]
) -> list[FrozenRun]:
    """The prompt, frozen; under the rule `null` also others of its length."""
    length = int(pairs.lengths[request.row])
    rows = [request.row]
    if request.keep.kind == "null":
        same = np.flatnonzero(pairs.lengths == length).tolist()
        rows += [row for row in same if row != request.row][:CHANCE_PROMPTS]
    side = pairs.corrupted if request.corrupted else pairs.clean
    device = model.embedding.device
    return [
        frozen_run(
            model,
            torch.from_numpy(side[row, :length].astype(np.int64)).to(device),
            codes,
            request.mlps,
        )
        for row in rows
    ]


def _outputs(
    pairs: PromptPairs, row: int, model: Transformer, data: TaskData, task: Task
) -> PromptOutputs:
    names = Outputs(data.tokenizer, task.answers)
    slot = int(np.flatnonzero(pairs.positions[row] >= 0)[0])
    answers = (
        [int(one) for one in side[row, slot] if one >= 0] for side in (pairs.good, pairs.bad)
    )
    good, bad = answers
    every = [names.name(output) for output in range(model.config.n_outputs)]
    return PromptOutputs(every, int(pairs.positions[row, slot]), good, bad)


def _pairs(run: FrozenRun, target: Target) -> dict[str, Any] | None:
    """What a score is made of, pair by pair; None for other targets."""
    if target.pair is None:
        return None
    layer, head, query, key = target.pair
    return pairs_data(score_pairs(run, layer, head, query, key), PAIRS)


def _board(task: Task, texts: Sequence[str]) -> dict[str, Any] | None:
    """The board after the prompt, of a task whose prompts are games."""
    data = task.data
    if not isinstance(data, GeneratorData) or data.generator != "othello":
        return None
    size = int(dict(data.params).get("size", 6))
    return board_after(size, texts)
