"""A circuit of channels drawn whole, with what its channels carry: as plain JSON data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.gates.model import GatedModel
from harness.circuits.gates.space import GatedSpace
from harness.circuits.gates.whiteboard import MOST_CHANNELS, can_be_drawn, draw_circuit, peaks
from harness.datasets.batch import Batch
from harness.errors import HarnessError
from harness.evaluation.setup import Setup

MOST_ANSWERS = 4
"""With more answers than these, prompts are not told apart by them."""


def whiteboard(setup: Setup, circuit: Circuit, name: Callable[[int], str]) -> dict[str, Any]:
    """Every kept channel: what it reads and writes, and what it carries for each answer.

    In the run of the circuit alone, on the set-up's pairs: `end` is the mean at the positions where
    answers are read, `peak` that of the prompt's value of largest magnitude. `counts` are the
    circuit's sizes; `name` tells an output's name. Raises `HarnessError` for circuits that cannot
    be drawn.
    """
    if not can_be_drawn(circuit):
        raise HarnessError(
            f"only circuits of 1 to {MOST_CHANNELS} channels with weights between them are drawn"
        )
    assert isinstance(circuit.space, GatedSpace)
    channels = [asdict(one) for one in draw_circuit(setup.model, circuit.space, circuit.kept)]
    carried = _carried(setup, circuit.kept, name)
    for place, channel in enumerate(channels):
        channel["carries"] = {
            answer: {"end": float(values[0, place]), "peak": float(values[1, place])}
            for answer, values in carried.items()
        }
    return {"counts": dict(circuit.space.counts(circuit.kept)), "channels": channels}


def _carried(setup: Setup, kept: Tensor, name: Callable[[int], str]) -> dict[str, Tensor]:
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
    return {name(one): both[:, answer == one].mean(1) for one in names}


def _at_the_end(batch: Batch, values: Tensor) -> Tensor:
    """Means of values [B, T, n] over the positions where each prompt is read: [B, n]."""
    rows = torch.arange(len(values))[:, None]
    at, used = batch.positions.cpu(), batch.read.cpu()
    read = values[rows, at.clamp(min=0)] * used[..., None]
    return read.sum(1) / used.sum(1, keepdim=True)
