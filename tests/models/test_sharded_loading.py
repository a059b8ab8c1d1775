"""Sharded models are read by each process for itself; none ever holds all blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from support import sharded_cases
from support.shards import in_processes, mesh_of
from support.slow_reference import small_model

from harness.errors import HarnessError
from harness.models.checkpoint import load_model, save_model
from harness.models.config import TransformerConfig
from harness.models.loading.read import read_checkpoint
from harness.models.loading.tensors import TensorFiles, build_model
from harness.models.transformer import Transformer, random_model

WIDE = TransformerConfig(
    n_layers=6, n_heads=4, d_model=64, d_head=16, d_mlp=256, d_vocab=50, n_ctx=16
)


def saved(model: Transformer, folder: Path) -> Path:
    folder.mkdir()
    save_model(model, folder)
    return folder


def block_numbers(model: Transformer) -> int:
    return sum(one.numel() for one in model.blocks.parameters())


def test_a_sharded_model_has_the_weights_of_its_file(tmp_path: Path) -> None:
    """In the file's precision, and rounded."""
    folder = saved(small_model("gemma-like"), tmp_path / "model")
    with mesh_of(0, 1, dist.HashStore()) as mesh:
        for dtype in (None, torch.bfloat16):
            got = sharded_cases.loaded(mesh, folder, dtype, counting=False)
            check_weights(load_model(folder, dtype=dtype), got["weights"])


def test_a_checkpoint_that_is_read_at_once_is_refused(tmp_path: Path) -> None:
    stored = read_checkpoint(saved(small_model("gpt2-like"), tmp_path / "model"))
    pickled = {
        name: replace(one, file=tmp_path / "model" / "final_model.pt")
        for name, one in stored.stored.items()
    }
    with (
        mesh_of(0, 1, dist.HashStore()) as mesh,
        pytest.raises(HarnessError, match=r"final_model\.pt: .* read whole.*`shards` at 1"),
    ):
        build_model(stored.translation, TensorFiles(pickled), mesh=mesh)


def check_weights(whole: Transformer, got: dict[str, torch.Tensor]) -> None:
    weights = dict(whole.named_parameters())
    assert weights.keys() == got.keys()
    assert all(torch.equal(got[name], value) for name, value in weights.items())


@pytest.mark.slow
def test_two_processes_read_shards(tmp_path: Path) -> None:
    """Rows that two processes cannot share equally too, as those of 3 sinks."""
    names = ("gpt2-like", "gemma-like", "sinks-windowed-capped")
    folders = [saved(small_model(name), tmp_path / name) for name in names]
    ranks = in_processes(sharded_cases.all_loaded, tmp_path, folders)
    for folder, *got in zip(folders, *ranks, strict=True):
        whole = load_model(folder)
        for one in got:
            check_weights(whole, one["weights"])
        assert sum(one["own"] for one in got) == block_numbers(whole)


@pytest.mark.slow
def test_no_process_ever_holds_more_than_its_shards_and_a_tensor(tmp_path: Path) -> None:
    model = random_model(WIDE, 0)
    folder = saved(model, tmp_path / "model")
    blocks = block_numbers(model)
    rest = sum(one.numel() for one in model.parameters()) - blocks
    largest = max(one.numel() for one in model.parameters())
    for got in in_processes(sharded_cases.loaded, tmp_path, folder):
        assert got["own"] == got["read"] == blocks / 2
        assert blocks / 2 < got["peak"] <= blocks / 2 + rest + largest + 1000 < 0.8 * blocks
