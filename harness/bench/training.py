"""Steps of training a weight-sparse model: what its budgets cost beside everything else.

The model has AbsTopK at every site and random weights; a step is forward and backward at every
token, the optimiser's update, and in a sparse one the projection onto the final budgets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from harness.bench.rows import FRACTION, KEPT, OF_TRAINING
from harness.datasets.pairs import TrainingBatch
from harness.models.training.optimiser import Optimiser
from harness.models.training.trainer import training_loss
from harness.models.transformer import Transformer, random_model
from harness.spec.types import ActivationSparsity, Sparsity, Training

if TYPE_CHECKING:
    from harness.bench.subject import Run, Subject

SPARSITY = Sparsity(nonzero_fraction=FRACTION, embedding_fraction=8 * FRACTION)
LAST = 1000
"""Steps of the whole training, of which the last is repeated: budgets are the final ones."""

SPEC = Training(
    objective="next_token",
    steps=LAST,
    learning_rate=1e-3,
    epsilon=0.1,
    gradient="divide_by_rms",
    decay="after_step",
)


def _model(subject: Subject) -> Transformer:
    config = replace(subject.config, activation_sparsity=ActivationSparsity(keep=KEPT))
    return random_model(config, 0, subject.bench.device, subject.model.embedding.dtype)


def _step(subject: Subject, sparsity: Sparsity | None) -> Run:
    model, device = _model(subject), subject.bench.device
    optimiser = Optimiser(model, SPEC, sparsity)
    tokens = subject.batch.clean.cpu().numpy()
    read, targets = tokens[:, :-1].copy(), tokens[:, 1:].copy()
    batch = TrainingBatch(read, np.full(len(read), read.shape[1]), targets)

    def run() -> None:
        loss = training_loss(model, batch, device)
        optimiser.clear()
        loss.backward()
        optimiser.update(LAST - 1)

    return run


def _projection(subject: Subject) -> Run:
    """The projection alone, of weights that are dense: copied back each time."""
    model = _model(subject)
    optimiser = Optimiser(model, SPEC, SPARSITY)
    dense = {name: weight.detach().clone() for name, weight in optimiser.weights.items()}

    def run() -> float:
        began = time.perf_counter()
        optimiser.project(1.0)
        elapsed = time.perf_counter() - began
        for name, weight in dense.items():
            optimiser.weights[name].data.copy_(weight)
        return elapsed

    return run


TRAINING: dict[str, Callable[[Subject], Run]] = dict(
    zip(
        OF_TRAINING,
        (partial(_step, sparsity=None), partial(_step, sparsity=SPARSITY), _projection),
        strict=True,
    )
)
"""The run of each row."""
