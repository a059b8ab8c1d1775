"""What the channels of a circuit carry at every token of an example pair, in the circuit's run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.gates.model import GatedModel
from harness.datasets.batch import Batch
from harness.evaluation.setup import Setup

MOST_CARRYING = 48
"""Elements whose activations are stored: those that differ most between the two prompts."""


def carried(
    setup: Setup, circuit: Circuit, example: Batch, window: slice
) -> list[dict[str, Any]] | None:
    """By element, its activations at the tokens of both prompts; None where nothing is carried.

    The elements that differ most come first, by the largest difference at a token.
    """
    if not isinstance(setup.patchable, GatedModel):
        return None
    clean = _activations(setup.patchable, setup, circuit.kept, example)
    twin = replace(example, clean=example.corrupted, corrupted=example.clean)
    corrupted = _activations(setup.patchable, setup, circuit.kept, twin)
    apart = (clean - corrupted).abs().amax(0)
    names = [setup.space.name(at) for at in circuit.kept.nonzero().flatten().tolist()]
    order = apart.argsort(descending=True, stable=True)[:MOST_CARRYING].tolist()
    return [
        {
            "name": names[at],
            "clean": clean[window, at].tolist(),
            "corrupted": corrupted[window, at].tolist(),
        }
        for at in order
    ]


def _activations(patchable: GatedModel, setup: Setup, kept: Tensor, batch: Batch) -> Tensor:
    """[T, n] of the kept elements."""
    values = patchable.activations(batch, kept, setup.counterfactuals.of(batch))
    return values[0][:, kept.to(values.device)].double().cpu()
