"""What a model was trained on: its first batches, and means that are kept for later cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
from harness.api import _cell
from harness.circuits.baseline import Baseline
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
evaluation: {granularity: channel, ablation: mean_training, positions: all}
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
    background = background_of(_cell(task, None), task.data)
    batches = list(background.prompts())
    for step, (tokens, lengths) in enumerate(batches):
        wanted = task.data.training_batch("answer", 96, step, 3)
        assert np.array_equal(tokens, wanted.tokens)
        assert np.array_equal(lengths, wanted.lengths)
    seen = [int(lengths.sum()) for _, lengths in batches]
    assert sum(seen) >= TOKENS > sum(seen[:-1])
    described = background.described()
    assert described == background_of(_cell(task, None), task.data).described()
    assert (described["tokens"], described["prompts"]) == (str(sum(seen)), str(96 * len(batches)))
    cell = _cell(task, None)
    spec = replace(cell.model, training=replace(cell.model.training, seed=4))
    other = background_of(replace(cell, model=spec), task.data)
    assert other.described()["sha256"] != described["sha256"]


def test_a_loaded_model_has_no_prompts(task: harness.OpenTask) -> None:
    loaded = replace(_cell(task, None), model=LoadModel(path="somewhere"))
    assert background_of(loaded, task.data) is None


def test_means_are_kept_for_cells_with_the_same_model_and_elements(task: harness.OpenTask) -> None:
    cell, means = _cell(task, None), Baseline("mean_training", torch.zeros(1, 3))
    keep_means(cell, Baseline("mean", torch.zeros(1, 3)))  # of the discovery pairs: not these
    assert not isinstance(background_of(cell, task.data), Baseline)
    keep_means(cell, means)
    assert background_of(replace(cell, seed=5), task.data) is means
    neurons = task.with_evaluation(component="neurons")
    assert not isinstance(background_of(_cell(neurons, None), task.data), Baseline)
    assert not isinstance(background_of(cell, task.data), Baseline)  # another was asked for since
