"""Models that others made, in a cell: what identifies them, and that they are measured."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from hashlib import sha256

import pytest
from support.fake_cells import a_method, a_task, loaded
from support.rounding import kl_bound

from harness.errors import HarnessError
from harness.runs.plan import ModelSource, make_cell, weights
from harness.runs.plan.weights import weight_digests
from harness.spec.types import LoadModel, Runtime

SPEC = LoadModel(path="model")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md"):
        (tmp_path / "model" / name).write_text(f"the text of {name}")
    return tmp_path


def test_configuration_and_weights_identify_a_model(folder):
    assert weight_digests(SPEC, folder) == {
        name: sha256(f"the text of {name}".encode()).hexdigest()
        for name in ("config.json", "model.safetensors")
    }


def test_all_shards_identify_a_model(folder):
    (folder / "model" / "model.safetensors").unlink()
    index = {"weight_map": {"x": "one.safetensors", "y": "two.safetensors"}}
    (folder / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model" / "one.safetensors").write_text("1")
    with pytest.raises(HarnessError, match=r"has no two\.safetensors"):
        weight_digests(SPEC, folder)
    (folder / "model" / "two.safetensors").write_text("2")
    first = weight_digests(SPEC, folder)
    assert len(first) == 4
    (folder / "model" / "two.safetensors").write_text("3")
    assert weight_digests(SPEC, folder) != first


def test_a_settled_file_is_read_once_and_a_changed_one_again(folder, monkeypatch):
    read = []
    digest = weights.file_digest
    monkeypatch.setattr(weights, "file_digest", lambda path: read.append(path.name) or digest(path))
    monkeypatch.setattr(weights, "SETTLED_NS", -(10**18))  # every file counts as settled
    first = weight_digests(SPEC, folder)
    assert weight_digests(SPEC, folder) == first
    assert sorted(read) == ["config.json", "model.safetensors"]
    path = folder / "model" / "model.safetensors"
    path.write_text("the text of model.Safetensors")  # of the same length
    os.utime(path, ns=(1, 1))
    assert weight_digests(SPEC, folder) != first
    assert len(read) == 3


def test_a_fresh_file_is_always_read(folder):
    first = weight_digests(SPEC, folder)
    (folder / "model" / "config.json").write_text("the text of Config.json")
    assert weight_digests(SPEC, folder) != first


def cell_of(folder, method="eap", dtype="float64", **params):
    """A cell that measures the model in a folder's `model` on a few pairs."""
    task = a_task(model=SPEC)
    choices = replace(task.evaluation, sizes=(0.5, 1.0), discovery_pairs=8, test_pairs=8)
    task = replace(task, evaluation=choices)
    source = ModelSource(SPEC, "loaded", folder)
    runtime = Runtime(threads=1, dtype=dtype)
    found = a_method(method, **params)
    return make_cell(loaded(task, folder), source, found, "method", 0, runtime)


def test_a_model_of_transformers_is_measured(tmp_path):
    """From its folder, through a cell, by a method, to faithfulness 1 of all edges."""
    pytest.importorskip("transformers")
    from support.hugging_face import saved

    from harness.runs.compute.cell import compute_cell
    from harness.runs.store.models import ModelStore

    saved("llama", tmp_path / "model")
    cell = cell_of(tmp_path)
    result = compute_cell(cell, ModelStore(tmp_path / "models"), lambda text: None).result
    assert result["curve"][-1]["faithfulness"]["value"] == pytest.approx(1)
    # Σ over layers (H + 2G + 1)·writers before + H, and the writers to the logits.
    assert result["total"] == 9 * (1 + 6 + 11) + 3 * 4 + 16
    (tmp_path / "model" / "config.json").write_text("{}")
    with pytest.raises(HarnessError, match="changed since the run was planned"):
        compute_cell(cell, ModelStore(tmp_path / "models"), lambda text: None)


@pytest.mark.parametrize(
    ("name", "method", "params"),
    [
        ("gemma2", "edge_pruning", {"steps": 5, "batch_size": 4}),
        ("gemma3-linear", "eap_ig", {"steps": 2}),
    ],
)
def test_a_gemma_is_measured(name, method, params, tmp_path):
    """Models that normalise heads together, from folder to curve; the anchors hold exactly."""
    pytest.importorskip("transformers")
    from support.hugging_face import saved

    from harness.runs.compute.cell import compute_cell
    from harness.runs.store.models import ModelStore

    saved(name, tmp_path / "model")
    cell = cell_of(tmp_path, method, **params)
    result = compute_cell(cell, ModelStore(tmp_path / "models"), lambda text: None).result
    half, whole = result["curve"]
    assert whole["faithfulness"]["value"] == 1
    assert whole["kl"]["value"] == pytest.approx(0, abs=1e-12)
    assert half["kl"]["value"] > 1e-6
    assert 0 < half["size"] < result["total"]


@pytest.mark.matrix
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_a_checkpoint_in_half_precision_is_measured_in_it(name, dtype, tmp_path):
    """Its weights are the same numbers in any runtime, so curves differ by rounding alone."""
    pytest.importorskip("transformers")
    import torch
    from support.hugging_face import random_theirs

    from harness.models.checkpoint import load_model
    from harness.runs.compute.cell import compute_cell
    from harness.runs.store.models import ModelStore

    half = getattr(torch, dtype)
    random_theirs(name).to(half).save_pretrained(tmp_path / "model")
    assert load_model(tmp_path / "model").embedding.dtype == half  # as stored
    rounded, exact = (
        compute_cell(
            cell_of(tmp_path, "random_paths", one),
            ModelStore(tmp_path / "models"),
            lambda text: None,
        ).result
        for one in (dtype, "float64")
    )
    error = 4 * torch.finfo(half).eps  # of logits whose spread is about 1
    for one, other in zip(rounded["curve"], exact["curve"], strict=True):
        assert one["size"] == other["size"]
        assert abs(one["logit_diff"]["value"] - other["logit_diff"]["value"]) < error
        kl = other["kl"]["value"]
        assert abs(one["kl"]["value"] - kl) < kl_bound(kl, error)
    assert rounded["curve"] != exact["curve"]


def test_a_model_with_too_small_a_vocabulary_is_refused(tmp_path):
    pytest.importorskip("transformers")
    from support.hugging_face import random_theirs

    from harness.runs.compute.cell import compute_cell
    from harness.runs.store.models import ModelStore

    random_theirs("gpt2", vocab_size=3).save_pretrained(tmp_path / "model")
    source = ModelSource(SPEC, "small", tmp_path)
    task = loaded(a_task(model=SPEC), tmp_path)
    cell = make_cell(task, source, a_method("eap"), "method", 0, Runtime(threads=1))
    with pytest.raises(HarnessError, match="the model knows 3 tokens"):
        compute_cell(cell, ModelStore(tmp_path / "models"), lambda text: None)
