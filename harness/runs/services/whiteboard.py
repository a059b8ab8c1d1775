"""A circuit of channels drawn whole, with what its channels carry: as plain JSON data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from harness.circuits.gates.model import GatedModel
from harness.circuits.gates.space import GatedSpace
from harness.circuits.gates.whiteboard import draw_circuit, peaks
from harness.datasets.batch import Batch
from harness.datasets.classes import classes_of
from harness.datasets.open import open_data
from harness.errors import HarnessError
from harness.evaluation.setup import Setup
from harness.runs.services.judge import Request, cell_of, prepared_for
from harness.runs.services.look import Outputs
from harness.runs.services.lookup import NamedCircuit
from harness.runs.store.models import ModelStore
from harness.spec.types import TrainModel

MOST_CHANNELS = 400
"""Larger circuits are no drawing."""

MOST_ANSWERS = 4
"""With more answers than these, prompts are not told apart by them."""


def can_be_drawn(named: NamedCircuit) -> bool:
    """Whether a circuit is made of channels with weights between them, and small enough."""
    circuit = named.circuit
    wired = isinstance(circuit.space, GatedSpace) and circuit.space.wiring is not None
    return wired and 0 < circuit.size <= MOST_CHANNELS


def whiteboard(request: Request, models: ModelStore, log: Callable[[str], None]) -> dict[str, Any]:
    """Every kept channel: what it reads and writes, and what it carries for each answer.

    In the run of the circuit alone, on the pairs that it is judged on: `end` is the mean at the
    positions where answers are read, `peak` that of the prompt's value of largest magnitude.
    `counts` are the circuit's sizes. Raises as `judge_circuit`, also for circuits that cannot be
    drawn.
    """
    if not can_be_drawn(request.named):
        raise HarnessError(
            f"{request.named.name} has no whiteboard: that is for circuits of 1 to {MOST_CHANNELS} "
            "channels with weights between them"
        )
    model, model_id = request.source.spec, cell_of(request)[0].model_id
    if isinstance(model, TrainModel) and model.weights is None and not models.exists(model_id):
        raise HarnessError("the model is not trained yet: run its task first")
    cell, _, prepared = prepared_for(request, models, log)
    circuit, setup = request.named.circuit, prepared.test
    assert isinstance(circuit.space, GatedSpace)
    data = open_data(cell.task)
    classes = classes_of(data)
    outputs = Outputs(data.tokenizer, None if classes is None else classes.names)
    channels = [asdict(one) for one in draw_circuit(setup.model, circuit.space, circuit.kept)]
    carried = _carried(setup, circuit.kept, outputs)
    for place, channel in enumerate(channels):
        channel["carries"] = {
            answer: {"end": float(values[0, place]), "peak": float(values[1, place])}
            for answer, values in carried.items()
        }
    return {"counts": dict(circuit.space.counts(circuit.kept)), "channels": channels}


def _carried(setup: Setup, kept: Tensor, outputs: Outputs) -> dict[str, Tensor]:
    """By the answer of the prompt: means over prompts of the kept channels, end and peak [2, n].

    One entry, of all prompts, where there are more than `MOST_ANSWERS` answers.
    """
    assert isinstance(setup.patchable, GatedModel)
    ends, tops, answers = [], [], []
    for batch in setup.batches:
        values = setup.patchable.activations(batch, kept, setup.counterfactuals.of(batch))
        values = values[..., kept.to(values.device)].double().cpu()
        ends.append(_at_the_end(batch, values))
        tops.append(peaks(values))
        answers.append(batch.good[:, 0, 0].cpu())
    both, answer = torch.stack([torch.cat(ends), torch.cat(tops)]), torch.cat(answers)
    names = answer.unique().tolist()
    if len(names) > MOST_ANSWERS:
        return {"all prompts": both.mean(1)}
    return {outputs.name(one): both[:, answer == one].mean(1) for one in names}


def _at_the_end(batch: Batch, values: Tensor) -> Tensor:
    """Means of values [B, T, n] over the positions where each prompt is read: [B, n]."""
    rows = torch.arange(len(values))[:, None]
    at, used = batch.positions.cpu(), batch.read.cpu()
    read = values[rows, at.clamp(min=0)] * used[..., None]
    return read.sum(1) / used.sum(1, keepdim=True)
