"""Shipped weight-sparse models are as sparse as their specs say, and solve their tasks."""

from __future__ import annotations

import json

import pytest

from harness.datasets.open import open_data
from harness.models.checkpoint import load_model
from harness.models.training.counts import dead_neurons, nonzeros
from harness.models.training.quality import quality
from harness.runs.plan.shipped import shipped_weights
from harness.spec.load import Library

MODELS = ("brackets-sparse-2l-64", "quotes-sparse-2l-64")


@pytest.mark.parametrize("name", MODELS)
def test_budgets_are_kept_and_the_task_is_solved(name):
    library = Library()
    loaded = library.model(name)
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
    pairs = open_data(library.task(spec.task)).pairs("test", 512, 1)
    assert float(quality(model, pairs)["accuracy"].mean()) >= 0.99
