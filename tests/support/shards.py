"""Models whose weights lie in shards, of one process or of several that a test starts."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from harness.models.transformer import Transformer


@contextmanager
def mesh_of(rank: int, world: int, store: dist.Store) -> Iterator[DeviceMesh]:
    """A mesh of processes on the CPU, for as long as the block lasts."""
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        yield init_device_mesh("cpu", (world,))
    finally:
        dist.destroy_process_group()


def sharded(model: Transformer, mesh: DeviceMesh) -> Transformer:
    """The model itself, its blocks in shards from now on."""
    model.requires_grad_(False).shard(mesh)
    return model


def own_block_numbers(model: Transformer) -> int:
    """Numbers of the blocks' parameters that this process holds. None may be whole."""
    parameters = list(model.blocks.parameters())
    assert all(isinstance(one, DTensor) for one in parameters)
    return sum(one.to_local().numel() for one in parameters)


def in_processes(function: Callable[..., Any], folder: Path, *args: Any, world: int = 2) -> list:
    """What `function(mesh, *args)` returns in each of some processes that make a mesh."""
    context = multiprocessing.get_context("spawn")
    queue, store = context.SimpleQueue(), str(folder / "store")
    processes = [
        context.Process(target=_run, args=(rank, world, store, queue, function, args))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    answers = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    if errors := [text for _, _, text in answers if text]:
        raise AssertionError("\n".join(errors))
    return [pickle.loads(value) for _, value, _ in sorted(answers)]


def _run(
    rank: int, world: int, store: str, queue: Any, function: Callable[..., Any], args: Any
) -> None:
    torch.set_num_threads(1)
    try:
        with mesh_of(rank, world, dist.FileStore(store, world)) as mesh:
            # As bytes: tensors would be handed over in memory that ends with this process.
            queue.put((rank, pickle.dumps(function(mesh, *args)), ""))
    except BaseException:
        queue.put((rank, b"", traceback.format_exc()))
