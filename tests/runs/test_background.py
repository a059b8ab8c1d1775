"""What a model was trained on: its first batches, and means that are kept for later cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
from harness.api.circuits import prepared
from harness.api.tasks import cell_of
from harness.circuits.baseline import Baseline
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer, random_model
from harness.runs.compute.background import TOKENS, background_of, keep_means
from harness.spec.types import LoadModel

TASK = """\
spec_version: 1
name: chan
title: By channels
tokenizer: {kind: characters, bos: true}
data:
  kind: generator
  generator: brackets
  params: {kinds: ["()", "[]"], lengths: [7, 9], max_depth: 3, min_distance: 2}
evaluation: {granularity: channel, ablation: mean_training, positions: all, test_pairs: 40}
model:
  kind: train
  architecture: {n_layers: 1, n_heads: 2, d_model: 8}
  training: {objective: answer, steps: 10, batch_size: 96, seed: 3}
"""


@pytest.fixture
def task(tmp_path: Path) -> harness.OpenTask:
    path = tmp_path / "chan.yaml"
    path.write_text(TASK, encoding="utf-8")
    return harness.load_task(str(path))


def test_prompts_are_the_batches_that_the_training_saw_first(task: harness.OpenTask) -> None:
    background = background_of(cell_of(task, None), task.data)
    batches = list(background.prompts())
    for step, (tokens, lengths) in enumerate(batches):
        wanted = task.data.training_batch("answer", 96, step, 3)
        assert np.array_equal(tokens, wanted.tokens)
        assert np.array_equal(lengths, wanted.lengths)
    seen = [int(lengths.sum()) for _, lengths in batches]
    assert sum(seen) >= TOKENS > sum(seen[:-1])
    described = background.described()
    assert described == background_of(cell_of(task, None), task.data).described()
    assert (described["tokens"], described["prompts"]) == (str(sum(seen)), str(96 * len(batches)))
    cell = cell_of(task, None)
    spec = replace(cell.model, training=replace(cell.model.training, seed=4))
    other = background_of(replace(cell, model=spec), task.data)
    assert other.described()["sha256"] != described["sha256"]


def test_a_loaded_model_has_no_prompts(task: harness.OpenTask) -> None:
    loaded = replace(cell_of(task, None), model=LoadModel(path="somewhere"))
    assert background_of(loaded, task.data) is None


def test_means_are_kept_for_cells_with_the_same_model_and_elements(task: harness.OpenTask) -> None:
    cell, means = cell_of(task, None), Baseline("mean_training", torch.zeros(1, 3))
    keep_means(cell, Baseline("mean", torch.zeros(1, 3)))  # of the discovery pairs: not these
    assert not isinstance(background_of(cell, task.data), Baseline)
    keep_means(cell, means)
    assert background_of(replace(cell, seed=5), task.data) is means
    neurons = task.with_evaluation(component="neurons")
    assert not isinstance(background_of(cell_of(neurons, None), task.data), Baseline)
    assert not isinstance(background_of(cell, task.data), Baseline)  # another was asked for since


def another_model(task: harness.OpenTask) -> Transformer:
    data = task.data
    shape = replace(cell_of(task, None).model.architecture, d_model=12)
    config = TransformerConfig.from_architecture(shape, data.tokenizer.size, data.longest)
    return random_model(config, 0)


def test_means_of_a_cell_are_not_those_of_whatever_model_is_measured(
    task: harness.OpenTask,
) -> None:
    """In a library any model can be handed over; `task.model` was only run in a cell before."""
    keep_means(cell_of(task, None), Baseline("mean_training", torch.zeros(1, 3)))
    space = prepared(task, another_model(task), 0).test
    values = space.counterfactuals.baseline.values
    assert values.shape == (1, len(space.space))
    assert values.abs().max() > 0


def test_means_of_a_file_are_those_of_its_own_ablation(task: harness.OpenTask) -> None:
    model = another_model(task)
    wanted = prepared(task, model, 0).test.counterfactuals.baseline
    own = replace(wanted, values=wanted.values + 1)
    for ablation, values in (("mean_training", own.values), ("mean", wanted.values)):
        file = replace(own, ablation=ablation)
        found = prepared(task, model, 0, baseline=file).test.counterfactuals.baseline
        assert torch.equal(found.values, values)
