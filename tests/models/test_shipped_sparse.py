"""Shipped weight-sparse models are as sparse as their specs say, and solve their tasks."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from harness.circuits.patchable import plain_logits
from harness.datasets.batch import Batches
from harness.datasets.open import open_data
from harness.metrics.logits import choice_accuracy
from harness.models.checkpoint import load_model
from harness.models.loading.tokenizer import on_model
from harness.models.training.counts import dead_neurons, nonzeros
from harness.models.training.quality import quality
from harness.runs.plan.shipped import shipped_weights
from harness.spec.load import Library

OF_TASKS = ("brackets-sparse-2l-64", "quotes-sparse-2l-64")
MODELS = (*OF_TASKS, "python-sparse-3l-128")

SOLVED = (
    *("single_double_quote", "bracket_counting", "else_elif", "bracket_brace", "for_while"),
    *("fstring_brace", "with_open", "if_ternary", "lambda_func", "enumerate_range"),
    *("class_init", "indent_for"),
)
"""Tasks of `tasks/code` that the model of Python solves: some of them."""


@pytest.mark.parametrize("name", MODELS)
def test_budgets_are_kept(name):
    loaded = Library().model(name)
    spec, folder = loaded.spec, shipped_weights(loaded.spec, loaded.folder).folder
    model, note = load_model(folder), json.loads((folder / "training.json").read_text())
    left = nonzeros(model, note["budgets"])
    sizes = {weight: tensor.numel() for weight, tensor in model.named_parameters()}
    for weight, count in left.items():
        embeds = weight in ("embedding", "unembedding")
        share = spec.sparsity.embedding_fraction if embeds else spec.sparsity.nonzero_fraction
        assert count <= int(share * sizes[weight])
        # A table's rows of tokens that are never seen stay zero; a matrix uses its budget whole.
        assert count == int(share * sizes[weight]) or weight in ("embedding", "unembedding")
    last = note["history"][-1]
    assert (last["tensors"], last["dead_neurons"]) == (left, dead_neurons(model))


@pytest.mark.parametrize("name", OF_TASKS)
def test_the_task_is_solved(name):
    library = Library()
    loaded = library.model(name)
    model = load_model(shipped_weights(loaded.spec, loaded.folder).folder)
    pairs = open_data(library.task(loaded.spec.task)).pairs("test", 512, 1)
    assert float(quality(model, pairs)["accuracy"].mean()) >= 0.99


def test_the_model_of_python_answers_its_questions():
    """Both prompts of fresh pairs, whose words are in no prompt that it was chosen by."""
    library = Library()
    loaded = library.model("python-sparse-3l-128")
    model = load_model(shipped_weights(loaded.spec, loaded.folder).folder)
    for name in SOLVED:
        data = open_data(on_model(library.task(f"code/{name}"), loaded.spec, loaded.folder))
        pairs = data.pairs("test", 64, 1)
        swapped = replace(
            pairs, clean=pairs.corrupted, corrupted=pairs.clean, good=pairs.bad, bad=pairs.good
        )
        right = [
            choice_accuracy(plain_logits(model, batch), batch)
            for side in (pairs, swapped)
            for batch in Batches(side, 64)
        ]
        assert float(torch.cat(right).mean()) >= 0.95, name


def test_the_file_of_the_model_of_python_is_small():
    loaded = Library().model("python-sparse-3l-128")
    folder = shipped_weights(loaded.spec, loaded.folder).folder
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1 << 20
