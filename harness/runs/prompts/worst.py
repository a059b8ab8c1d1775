"""The prompt pairs on which a circuit is furthest from its model, in words.

Stored with a cell as `prompts.json`: tokens of both prompts, the answers, and what the model and
the circuit alone expect where they are read. Reports show it without the task or the model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.patchable import plain_logits
from harness.datasets.batch import Batch
from harness.datasets.classes import classes_of
from harness.datasets.kinds import numeric_answers
from harness.datasets.pairs import PromptPairs, TaskData
from harness.datasets.program import CARRIER
from harness.evaluation.setup import Setup
from harness.metrics.class_accuracy import Floats
from harness.runs.prompts.words import Outputs, expected, pair_in_words
from harness.spec.types import Task

FILE = "prompts.json"
WORST = 12
"""Prompt pairs that are stored of a cell: those of largest KL."""

READS = 4
"""Positions of a prompt that are stored: where the circuit is furthest from the model."""

ANSWERS = 8
"""Right, and wrong, answers that are named; `n_good` and `n_bad` count all."""


def prompts_file(
    setup: Setup,
    task: Task,
    data: TaskData,
    circuit: Circuit,
    measured: Sequence[Tensor],
    kl: Floats,
) -> dict[str, bytes]:
    """The file of a cell's circuit, by name.

    `measured`: the kept sets [E] that KL [C + 2, n] is of; its last row is that of all elements.
    """
    rows = (row for row, one in enumerate(measured) if torch.equal(one, circuit.kept))
    prompts = worst_prompts(setup, task, data, circuit.kept, kl[next(rows, -1)])
    text = json.dumps(prompts, ensure_ascii=False, allow_nan=False, sort_keys=True)
    return {FILE: text.encode()}


def worst_prompts(
    setup: Setup, task: Task, data: TaskData, kept: Tensor, kl: Floats
) -> dict[str, Any]:
    """The pairs of largest KL [n] of a circuit [E], the worst first, as plain JSON data.

    `kl` is in the order of the set-up's pairs.
    """
    classes = classes_of(data)
    outputs = Outputs(data.tokenizer, None if classes is None else classes.names)
    order = np.argsort(-kl, kind="stable")[:WORST]
    numbers = numeric_answers(task.data)
    by_row: dict[int, dict[str, Any]] = {}
    for batch in setup.batches:
        chosen = torch.isin(batch.rows.cpu(), torch.from_numpy(order))
        if chosen.any():
            part = batch.take(chosen.nonzero().flatten())
            by_row |= _in_words(setup, part, kept, outputs, numbers=numbers)
    return {
        "schema_version": 1,
        "size": int(kept.sum()),
        "n": setup.n,
        "answers_are_numbers": numbers,
        "pairs": [by_row[row] | {"kl": float(kl[row])} for row in order.tolist()],
    }


@torch.no_grad()
def _in_words(
    setup: Setup, batch: Batch, kept: Tensor, outputs: Outputs, *, numbers: bool
) -> dict[int, dict[str, Any]]:
    """The pairs of a batch by their place among all."""
    whole = plain_logits(setup.model, batch)
    mask = kept[None].to(whole.device)
    alone = setup.patchable.logits(batch, mask, setup.counterfactuals.of(batch))[0]
    logits = {"model": whole.double().cpu(), "circuit": alone.double().cpu()}
    good, bad, used = batch.good.cpu(), batch.bad.cpu(), batch.read.cpu()
    apart = _kl(logits["model"], logits["circuit"])
    pairs = _pairs_of(batch)
    by_row = {}
    for place, row in enumerate(batch.rows.tolist()):
        said = pair_in_words(pairs, place, outputs)
        slots = used[place].nonzero().flatten().tolist()
        reads = []
        for read, slot in zip(said["reads"], slots, strict=True):
            right, wrong = good[place, slot], bad[place, slot]
            guesses = {
                name: {"number": float(one[place, slot, CARRIER])}
                if numbers
                else expected(one[place, slot], right, wrong, outputs)
                for name, one in logits.items()
            }
            counts = {"n_good": len(read["good"]), "n_bad": len(read["bad"])}
            named = {"good": read["good"][:ANSWERS], "bad": read["bad"][:ANSWERS]}
            reads.append(read | named | counts | guesses | {"kl": float(apart[place, slot])})
        reads.sort(key=lambda one: -one["kl"])
        by_row[row] = said | {
            "row": row,
            "reads": sorted(reads[:READS], key=lambda one: int(one["at"])),
            "n_reads": len(reads),
        }
    return by_row


def _kl(model: Tensor, circuit: Tensor) -> Tensor:
    """Nats at each read position: logits [B, P, V] to [B, P]."""
    own, other = model.log_softmax(-1), circuit.log_softmax(-1)
    return (own.exp() * (own - other)).sum(-1)


def _pairs_of(batch: Batch) -> PromptPairs:
    """A batch as pairs again."""
    names = ("clean", "corrupted", "positions", "good", "bad")
    arrays = {name: getattr(batch, name).cpu().numpy() for name in names}
    lengths = np.full(len(batch), batch.clean.shape[1], dtype=np.int64)
    return PromptPairs(**arrays, lengths=lengths)
