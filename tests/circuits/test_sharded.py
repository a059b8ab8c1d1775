"""Sharded weights give the numbers of whole ones, and at most two blocks are whole at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from support import sharded_cases
from support.sharded_cases import model_for
from support.shards import in_processes, mesh_of, own_block_numbers, sharded
from torch.distributed.device_mesh import DeviceMesh

from harness.errors import HarnessError
from harness.tracing.run import frozen_run

MOST = 1e-6


@pytest.fixture(scope="module")
def mesh() -> Iterator[DeviceMesh]:
    """Of this process alone: weights are gathered from itself, and dropped all the same."""
    with mesh_of(0, 1, dist.HashStore()) as one:
        yield one


def test_passes_and_gradients_of_shards(mesh: DeviceMesh) -> None:
    found = sharded_cases.pass_differences(mesh, "gemma-like")
    assert max(found.values()) == 0, found


def test_methods_on_shards(mesh: DeviceMesh) -> None:
    found = sharded_cases.method_differences(mesh, "eap_ig", "edge_pruning")
    assert max(found.values()) <= MOST, found
    assert len(found) == 4


def test_a_block_is_empty_outside(mesh: DeviceMesh) -> None:
    """What is kept of a gathered block has no numbers; a test of others' differences could fail."""
    model = sharded(model_for("edge"), mesh)
    with model.block(0).whole() as block:
        kept = block.out_map.weight
        assert kept.untyped_storage().nbytes() > 0
    assert kept.untyped_storage().nbytes() == 0
    assert model.gatherings is not None
    assert (model.gatherings.whole, model.gatherings.most, model.gatherings.total) == (0, 1, 1)


def test_a_backward_pass_that_no_block_is_entered_by_leaves_none_whole(mesh: DeviceMesh) -> None:
    """A gradient that starts inside the first block has no way in to drop its weights at."""
    model = sharded(model_for("edge"), mesh)
    tokens = torch.tensor([[1, 2, 3]])
    shift = torch.zeros(model.config.d_model, dtype=torch.float64, requires_grad=True)
    x = model.start(tokens)
    for block in model.layers():
        x = block.leaves(x + block.add_attention(block.project(block.heads(x + shift))))
    x.sum().backward()
    assert shift.grad is not None
    numbers = own_block_numbers(model)
    sharded_cases.check_gathered(model, numbers)


def test_a_run_in_shards_is_not_traced(mesh: DeviceMesh) -> None:
    model = sharded(model_for("edge"), mesh)
    with pytest.raises(HarnessError, match="tracing keeps the weights of all layers"):
        frozen_run(model, torch.tensor([1, 2, 3]))


@pytest.mark.slow
def test_two_processes_with_half_the_weights_each(tmp_path: Path) -> None:
    """Every architecture, every method of every granularity, and learned constants."""
    for found in in_processes(sharded_cases.all_differences, tmp_path):
        assert max(found.values()) <= MOST, found
        assert len(found) > 150
