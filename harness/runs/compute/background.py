"""What a cell's model was trained on: the prompts that `mean_training` takes means over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from harness.circuits.baseline import Baseline
from harness.circuits.patchable import TRAINING_MEANS
from harness.datasets.pairs import TaskData
from harness.runs.compute.last import Last
from harness.runs.compute.obtain import training_data
from harness.runs.plan import Cell
from harness.runs.store.models import ModelStore
from harness.spec.types import Ablation, TrainModel

TOKENS = 2**14
"""Tokens that means are taken over, at least: the first batches of the training."""

Ints = NDArray[np.int64]


_MEANS: Last[list[Baseline]] = Last()


def background_of(
    cell: Cell, data: TaskData, models: ModelStore | None = None, *, is_own_model: bool = True
) -> TrainingPrompts | Baseline | None:
    """The training prompts of a cell's model; None where the model is loaded or compiled.

    Of cells that follow each other, the means that the first one took (`keep_means`), but if the
    model that will be run need not be the cell's (`is_own_model`). `models`: where the tokens of a
    corpus are kept.
    """
    if not isinstance(cell.model, TrainModel):
        return None
    if is_own_model and (means := _means_of(cell)):
        return means[0]
    return TrainingPrompts(cell, data, cell.model, models)


def constants_of_file(baseline: Baseline | None, ablation: Ablation) -> Baseline | None:
    """What dropped elements carry by a circuit's file, if it says so of this ablation."""
    return baseline if baseline is not None and baseline.ablation == ablation else None


def keep_means(cell: Cell, baseline: Baseline | None) -> None:
    """Keep means over the training for the next cell with this model and these elements."""
    if baseline is not None and baseline.ablation == TRAINING_MEANS:
        _means_of(cell)[:] = [baseline]


def _means_of(cell: Cell) -> list[Baseline]:
    choices = cell.task.spec.evaluation
    elements = (
        choices.granularity,
        choices.component,
        choices.inputs,
        choices.key_value_edges,
        cell.identity.get("dictionary"),
    )
    return _MEANS.of((cell.model_id, cell.runtime, elements), list)


@dataclass(frozen=True)
class TrainingPrompts:
    """The batches that the training saw first; nothing is drawn before they are asked for."""

    cell: Cell
    data: TaskData
    spec: TrainModel
    models: ModelStore | None

    @cached_property
    def _batches(self) -> list[tuple[Ints, Ints]]:
        source, training = training_data(self.cell, self.data, self.models), self.spec.training
        batches: list[tuple[Ints, Ints]] = []
        tokens = 0
        while tokens < TOKENS:
            batch = source.training_batch(
                training.objective, training.batch_size, len(batches), training.seed
            )
            batches.append((batch.tokens, batch.lengths))
            tokens += int(batch.lengths.sum())
        return batches

    def prompts(self) -> Iterator[tuple[Ints, Ints]]:
        """Tokens [B, T] and lengths [B], batch by batch."""
        return iter(self._batches)

    def described(self) -> Mapping[str, str]:
        """Digest, and how many."""
        content = sha256()
        for tokens, lengths in self._batches:
            for array in (tokens, lengths):
                content.update(np.ascontiguousarray(array, np.int64).tobytes())
        return {
            "of": "training prompts",
            "prompts": str(sum(len(lengths) for _, lengths in self._batches)),
            "tokens": str(sum(int(lengths.sum()) for _, lengths in self._batches)),
            "sha256": content.hexdigest(),
        }
