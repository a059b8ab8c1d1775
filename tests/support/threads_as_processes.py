"""Threads in place of the processes that share prompts, for fast tests of what all of them do.

What `harness.ranks` calls of torch.distributed is exchanged between threads; the rest is its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from unittest.mock import patch

import torch
import torch.distributed as dist

from harness import ranks

Value = TypeVar("Value")


class _OfThread(threading.local):
    """`ranks._group`, one for each thread."""

    rank, world, is_alone = 0, 1, False


class _Exchange:
    def __init__(self, world: int, group: _OfThread) -> None:
        self.group = group
        self.values: list[Any] = [None] * world
        self.barrier = threading.Barrier(world, timeout=60)

    def all(self, value: Any) -> list[Any]:
        """What every thread has."""
        self.values[self.group.rank] = value
        self.barrier.wait()  # a broken one is a RuntimeError, as a closed connection is
        values = list(self.values)
        self.barrier.wait()
        return values

    def all_reduce(self, tensor: torch.Tensor, op: Any = dist.ReduceOp.SUM) -> None:
        values = torch.stack(self.all(tensor.clone()))
        tensor.copy_(values.amax(0) if op == dist.ReduceOp.MAX else values.sum(0))

    def all_gather_object(self, into: list[Any], value: Any) -> None:
        into[:] = self.all(value)

    def broadcast_object_list(self, box: list[Any], src: int) -> None:
        box[:] = self.all(list(box))[src]


def in_processes(world: int, function: Callable[[], Value]) -> list[Value]:
    """What `function` returns in each of `world` threads that take themselves for processes.

    Raises the first error that is not about a lost process.
    """
    group = _OfThread()
    exchange = _Exchange(world, group)

    def run(rank: int) -> Value:
        group.rank, group.world = rank, world
        torch.set_num_threads(1)
        try:
            return function()
        except BaseException:
            exchange.barrier.abort()
            raise

    with (
        patch.object(ranks, "_group", group),
        patch.object(dist, "all_reduce", exchange.all_reduce),
        patch.object(dist, "all_gather_object", exchange.all_gather_object),
        patch.object(dist, "broadcast_object_list", exchange.broadcast_object_list),
        ThreadPoolExecutor(world) as pool,
    ):
        runs = [pool.submit(run, rank) for rank in range(world)]
        errors = [error for one in runs if (error := one.exception()) is not None]
    for error in sorted(errors, key=lambda one: isinstance(one, ranks.RankLost)):
        raise error
    return [one.result() for one in runs]
