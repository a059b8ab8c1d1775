"""Weights that lie in shards over processes, and a block at a time that is whole.

Each of N processes holds 1/N of every block's weights (FSDP2). What runs a block has it whole only
inside `Gathered.whole`, which gathers its weights from all processes; a backward pass through it
gathers them again, between `leaves` and `enters`. All processes must walk the same blocks in the
same order, as every gathering waits for all of them. Where weights are whole, as they are in one
process, nothing of this does anything.

Cost of a gathering per process: (N-1)/N of a block's weights are received; nothing is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, nn

from harness import ranks

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import FSDPModule


@dataclass
class Gatherings:
    """Of one model's blocks: how many are whole, were so at most at once, and were gathered."""

    whole: int = 0
    most: int = 0
    total: int = 0

    def __str__(self) -> str:
        return (
            f"weights lie in shards: a layer was gathered {self.total} times, at most "
            f"{self.most} at once, {self.whole} left whole"
        )


class Gathered(nn.Module):
    """A module whose weights may lie in shards; `gatherings` counts, and is None where not.

    Kept inside `whole`, a weight or a view of it is empty afterwards: what is kept is a copy.
    """

    gatherings: Gatherings | None = None
    _holders = 0
    _in_backward = False

    @contextmanager
    def whole(self) -> Iterator[Self]:
        """Have the weights whole inside; from all processes, which must come here too."""
        if self.gatherings is None:
            yield self
            return
        self._gather()
        try:
            yield self
        finally:
            self._drop()

    def enters(self, x: Tensor) -> Tensor:
        """x on its way in: a backward pass that has left the module drops its weights here."""
        if self.gatherings is None or not (torch.is_grad_enabled() and x.requires_grad):
            return x
        entered: Tensor = _InBackward.apply(x, self.end_backward)  # type: ignore[no-untyped-call]
        return entered

    def leaves(self, x: Tensor) -> Tensor:
        """x on its way out: a backward pass that comes here gathers the module's weights."""
        if self.gatherings is None or not (torch.is_grad_enabled() and x.requires_grad):
            return x
        left: Tensor = _InBackward.apply(x, self.begin_backward)  # type: ignore[no-untyped-call]
        return left

    def _gather(self) -> None:
        assert self.gatherings is not None
        if self._holders == 0:
            ranks.meet("gather a layer's weights")  # an error elsewhere ends the wait
            cast("FSDPModule", self).unshard()
            self.gatherings.total += 1
            self.gatherings.whole += 1
            self.gatherings.most = max(self.gatherings.most, self.gatherings.whole)
        self._holders += 1

    def _drop(self) -> None:
        assert self.gatherings is not None
        self._holders -= 1
        if self._holders == 0:
            cast("FSDPModule", self).reshard()
            self.gatherings.whole -= 1

    def begin_backward(self) -> None:
        """Gather for a backward pass, until `end_backward` or the end of the pass."""
        if not self._in_backward:
            self._in_backward = True
            self._gather()
            # Where nothing before this module needs a gradient, the pass never comes to `enters`.
            torch.autograd.Variable._execution_engine.queue_callback(self.end_backward)

    def end_backward(self) -> None:
        """Drop what `begin_backward` gathered; nothing if that is dropped already."""
        if self._in_backward:
            self._in_backward = False
            self._drop()


class _InBackward(torch.autograd.Function):
    """The identity, and a call where a backward pass comes by."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Callable[[], None]) -> Tensor:
        ctx.call = call
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        ctx.call()
        return grads[0], None


def shard(modules: Iterator[Gathered], mesh: DeviceMesh) -> Gatherings:
    """Cut each module's weights, along their first axis, into the shards of a mesh's processes.

    They must be frozen, and may be on the device `meta`. Returns what counts gatherings.
    """
    from torch.distributed.fsdp import fully_shard

    gatherings = Gatherings()
    for module in modules:
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
        module.gatherings = gatherings
    return gatherings


def own_rows(parameter: Tensor) -> tuple[Tensor, range]:
    """What this process holds of a parameter that may lie in shards, and which rows these are."""
    if not hasattr(parameter, "to_local"):  # a DTensor, whose class is slow to import
        return parameter, range(len(parameter))
    shard: Any = parameter
    own: Tensor = shard.to_local()
    each = -(-len(shard) // shard.device_mesh.size())  # as `torch.chunk` divides
    start = min(shard.device_mesh.get_local_rank() * each, len(shard))
    return own, range(start, start + len(own))
