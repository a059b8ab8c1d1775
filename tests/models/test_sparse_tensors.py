"""Tensors most of whose entries are zero are stored without these, and come back bit for bit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from harness.errors import HarnessError
from harness.models.checkpoint import load_model, save_model
from harness.models.config import TransformerConfig
from harness.models.loading.stored import stored_tensors
from harness.models.loading.tensors import TensorFiles
from harness.models.loading.weight_sparse.sparse_tensors import sparse_form
from harness.models.transformer import random_model


def written(path: Path, tensors: dict[str, torch.Tensor]) -> TensorFiles:
    path.write_bytes(save(*sparse_form(tensors)))
    return TensorFiles(stored_tensors([path]))


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


@settings(deadline=None, max_examples=60)
@given(
    shape=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    share=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 99),
)
def test_what_is_read_is_what_was_written(tmp_path_factory, shape, share, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(shape, generator=generator).to(dtype)
    tensor[torch.rand(shape, generator=generator) >= share] = 0.0
    if tensor.numel() > 1:
        tensor.view(-1)[0], tensor.view(-1)[1] = -0.0, float("nan")
    files = written(
        tmp_path_factory.mktemp("sparse") / "t.safetensors", {"t": tensor, "u": -tensor}
    )
    for name, expected in (("t", tensor), ("u", -tensor)):
        assert (files[name].shape, set(files)) == (tuple(shape), {"t", "u"})
        assert files.read(name).shape == tensor.shape
        assert files.read(name).dtype == dtype == files.dtype([name])
        assert bits(files.read(name)) == bits(expected)


def test_only_matrices_that_shrink_by_half_are_stored_in_parts():
    full, empty = torch.ones(8, 8), torch.zeros(8, 8)
    quarter = torch.zeros(8, 8)
    quarter[:4, :4] = 1.0  # 16 values and 8 bytes of places: 72 of 256 bytes
    tensors = {"full": full, "bias": torch.zeros(64), "quarter": quarter, "empty": empty}
    stored, metadata = sparse_form(tensors)
    assert {*stored} == {
        *("full", "bias", "quarter.values", "quarter.places", "empty.values", "empty.places")
    }
    assert metadata == {"sparse": '{"empty": [8, 8], "quarter": [8, 8]}'}
    assert stored["quarter.places"].tolist() == [0xF0] * 4 + [0] * 4
    assert stored["quarter.values"].tolist() == [1.0] * 16
    half = torch.zeros(8, 8)
    half[:4] = 1.0  # 128 + 8 bytes: more than half
    assert sparse_form({"half": half, "full": full}) == ({"half": half, "full": full}, None)


def test_a_sparse_model_is_a_small_file_and_the_same_model(tmp_path):
    config = TransformerConfig(
        n_layers=1, n_heads=2, d_model=16, d_head=8, d_mlp=64, d_vocab=40, n_ctx=7
    )
    model = random_model(config, seed=0)
    with torch.no_grad():
        for weight in model.parameters():
            weight[torch.rand(weight.shape) > 0.05] = 0.0
    save_model(model, tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size < 0.5 * sum(weight.nbytes for weight in model.parameters())
    loaded = dict(load_model(tmp_path).named_parameters())
    assert loaded.keys() == dict(model.named_parameters()).keys()
    for name, weight in model.named_parameters():
        assert torch.equal(loaded[name], weight)


GOOD = {"t.values": torch.ones(2), "t.places": torch.tensor([0b10100000], dtype=torch.uint8)}


@pytest.mark.parametrize(
    ("change", "metadata", "message"),
    [
        ({}, "no JSON", "is not JSON"),
        ({}, "[1]", "must map tensors to their shapes"),
        ({}, '{"t": [2, -3]}', "must map tensors to their shapes"),
        ({}, '{"t": [true]}', "must map tensors to their shapes"),
        ({}, '{"t": []}', "must map tensors to their shapes"),
        ({}, '{"u": [2, 3]}', r"u\.values is missing"),
        ({"t.places": None}, '{"t": [2, 3]}', r"t\.places is missing"),
        ({"t": torch.ones(2, 3)}, '{"t": [2, 3]}', "in it twice"),
        ({}, '{"t": [3, 3]}', "not a bit for each of the 9 entries"),
        ({"t.places": torch.tensor([160])}, '{"t": [2, 3]}', "not a bit for each"),
        ({"t.values": torch.ones(1, 2)}, '{"t": [2, 3]}', "no list of at most 6"),
        ({"t.values": torch.ones(9)}, '{"t": [2, 3]}', "no list of at most 6"),
    ],
)
def test_files_that_cannot_be_right_are_refused_from_their_headers(
    tmp_path, change, metadata, message
):
    path = tmp_path / "t.safetensors"
    tensors = {name: one for name, one in (GOOD | change).items() if one is not None}
    save_file(tensors, path, {"sparse": metadata})
    with pytest.raises(HarnessError, match=message) as raised:
        stored_tensors([path])
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("places", [0b10000000, 0b11100000, 0b10000001])
def test_places_that_do_not_fit_the_values_are_refused(tmp_path, places):
    path = tmp_path / "t.safetensors"
    save_file(
        GOOD | {"t.places": torch.tensor([places], dtype=torch.uint8)},
        path,
        {"sparse": json.dumps({"t": [2, 3]})},
    )
    files = TensorFiles(stored_tensors([path]))
    with pytest.raises(HarnessError, match=r"t is damaged: it has . places for 2 values"):
        files.read("t")
    save_file(GOOD, path, {"sparse": json.dumps({"t": [2, 3]})})
    assert TensorFiles(stored_tensors([path])).read("t").tolist() == [[1, 0, 1], [0, 0, 0]]
    assert {*load_file(path)} == {*GOOD}
