"""What a report tells of the nodes of a circuit: stored with a cell as `nodes.json`.

Reports draw it without the task or the model. Everything in it is bounded, so that a cell of any
model stays small; numbers are rounded to six digits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.gates.whiteboard import ties_between
from harness.circuits.ground_truth import GroundTruth
from harness.datasets.batch import Batch
from harness.datasets.kinds import numeric_answers
from harness.datasets.pairs import TaskData
from harness.errors import HarnessError
from harness.evaluation.setup import Setup
from harness.runs.nodes.carried import carried
from harness.runs.nodes.features import features_told
from harness.runs.nodes.traced import traced
from harness.runs.nodes.worth import Worth, worth_of
from harness.runs.nodes.written import AnswerWrites, written_by
from harness.runs.prompts.words import token_text
from harness.runs.store.circuits import NODES, NODES_VERSION
from harness.spec.types import Task

MOST_TRUE = 400
"""True elements that are named; in larger truths none are."""

TOKENS = 40
"""Of an example prompt: the last ones, up to where the last answer is read."""


def nodes_file(
    setup: Setup, task: Task, data: TaskData, circuit: Circuit, truth: GroundTruth | None
) -> dict[str, bytes]:
    """The file of a cell's circuit, by name."""
    content = nodes_of(setup, task, data, circuit, truth)
    text = json.dumps(_rounded(content), ensure_ascii=False, allow_nan=False, sort_keys=True)
    return {NODES: text.encode()}


def nodes_of(
    setup: Setup, task: Task, data: TaskData, circuit: Circuit, truth: GroundTruth | None
) -> dict[str, Any]:
    """Worth of nodes, what they write to the answers, patterns and activations on an example.

    `problems` says what could not be told, and why.
    """
    example, problems = _example(setup.batches), dict[str, str]()
    end = int(example.positions.max()) + 1
    start = max(0, end - TOKENS)
    worth, written = Worth(), AnswerWrites()
    try:
        worth = worth_of(setup, circuit)
    except HarnessError as error:
        problems["worth"] = str(error)
    if numeric_answers(task.data):
        problems["writes"] = "answers are numbers, not outputs that are more or less likely"
    else:
        try:
            written = written_by(setup, circuit, example, slice(start, end))
        except HarnessError as error:
            problems["writes"] = str(error)
    followed: dict[str, Any] | None = None
    try:
        followed = traced(setup, circuit, example)
    except HarnessError as error:
        problems["trace"] = str(error)
    also = [one["feature"] for one in (followed or {"nodes": ()})["nodes"] if one["feature"]]
    names = dict.fromkeys([*worth.without, *written.writes, *written.looks])
    return {
        "schema_version": NODES_VERSION,
        "metric": setup.choices.metric,
        "n": worth.n,
        "model": worth.model,
        "circuit": worth.circuit,
        "n_writes": written.n,
        "logit_diff": written.logit_diff,
        "problems": problems,
        "nodes": [_node(name, worth, written) for name in names],
        "patterns": dict(written.patterns),
        "example": _in_words(example, data, start, end),
        "ties": _ties(setup, circuit),
        "carried": carried(setup, circuit, example, slice(start, end)),
        "features": features_told(setup, data, circuit, list(dict.fromkeys(also))),
        "trace": followed,
        "true": _true(truth),
    }


def _node(name: str, worth: Worth, written: AnswerWrites) -> dict[str, Any]:
    return {
        "name": name,
        "without": worth.without.get(name),
        "model_without": worth.model_without.get(name),
        "writes": written.writes.get(name),
        "looks": written.looks.get(name),
    }


def _example(batches: Sequence[Batch]) -> Batch:
    """The first pair of the shortest prompts."""
    return min(batches, key=lambda one: one.clean.shape[1]).take(torch.tensor([0]))


def _in_words(example: Batch, data: TaskData, start: int, end: int) -> dict[str, Any]:
    """Tokens `start` to `end` of both prompts; `read`: places among these."""

    def words(tokens: Tensor) -> list[str]:
        return [token_text(data.tokenizer, token) for token in tokens[0, start:end].tolist()]

    at = [int(one) - start for one in example.positions[0].tolist() if one >= start]
    return {
        "row": int(example.rows[0]),
        "first": start,
        "clean": words(example.clean),
        "corrupted": words(example.corrupted),
        "read": at,
    }


def _ties(setup: Setup, circuit: Circuit) -> list[list[Any]] | None:
    """Source, target and weight (None through the stream) of what ties kept channels."""
    ties = ties_between(circuit, setup.model)
    if ties is None:
        return None
    return [[source, target, weight] for (source, target), weight in ties.items()]


def _true(truth: GroundTruth | None) -> list[str] | None:
    """None where there is no truth, or too much of it."""
    return None if truth is None or truth.size > MOST_TRUE else list(truth.elements())


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value
