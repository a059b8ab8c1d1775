"""Steps of training a model: what a sparse one's budgets cost, and what half precision gains.

Weights are random. A step is forward and backward at every token and the optimiser's update. The
first rows are of models with AbsTopK at every site, and sparse ones are projected onto their final
budgets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from harness.bench.rows import FRACTION, KEPT, OF_DENSE_TRAINING, OF_TRAINING
from harness.datasets.pairs import TrainingBatch
from harness.models.training.optimiser import Optimiser
from harness.models.training.trainer import Precision, training_loss
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


def _model(subject: Subject, kept: float | None = KEPT) -> Transformer:
    config = subject.config
    if kept is not None:
        config = replace(config, activation_sparsity=ActivationSparsity(keep=kept))
    return random_model(config, 0, subject.bench.device, subject.model.embedding.dtype)


def _step(
    subject: Subject,
    sparsity: Sparsity | None = None,
    kept: float | None = KEPT,
    precision: Precision = "float32",
) -> Run:
    model, device = _model(subject, kept), subject.bench.device
    optimiser = Optimiser(model, SPEC, sparsity)
    tokens = subject.batch.clean.cpu().numpy()
    read, targets = tokens[:, :-1].copy(), tokens[:, 1:].copy()
    batch = TrainingBatch(read, np.full(len(read), read.shape[1]), targets)

    def run() -> None:
        loss = training_loss(model, batch, device, precision)
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


_DENSE = partial(_step, kept=None)

TRAINING: dict[str, Callable[[Subject], Run]] = dict(
    zip(
        (*OF_TRAINING, *OF_DENSE_TRAINING),
        (
            *(_step, partial(_step, sparsity=SPARSITY), _projection),
            *(_DENSE, partial(_DENSE, precision="bfloat16")),
        ),
        strict=True,
    )
)
"""The run of each row."""
