"""A pretended device: tensors on it are computed on the CPU, and never mixed with those of the CPU.

What a GPU would refuse (and what it allows but is slow: indices on the CPU) raises `MixedDevices`.
The device is called `meta`, which every build of torch knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

THERE = torch.device("meta")


class MixedDevices(AssertionError):
    """One operation on tensors of both devices."""


class Elsewhere(Tensor):
    """A tensor on the pretended device; `held` is what it holds, on the CPU."""

    @staticmethod
    def __new__(cls, held: Tensor) -> Elsewhere:
        one: Elsewhere = Tensor._make_wrapper_subclass(
            cls, held.shape, dtype=held.dtype, device=THERE, strides=held.stride()
        )
        one.held = held
        return one

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        with _Devices():
            return function(*args, **(kwargs or {}))

    def __repr__(self) -> str:
        return f"Elsewhere({self.held!r})"


def _here(value: Any) -> Any:
    return value.held if isinstance(value, Elsewhere) else value


def _there(value: Any) -> Any:
    return Elsewhere(value) if isinstance(value, Tensor) and type(value) is Tensor else value


class _Devices(TorchDispatchMode):
    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        there = [x for x in tensors if isinstance(x, Elsewhere)]
        mixed = [x for x in tensors if not isinstance(x, Elsewhere) and x.ndim]
        device = kwargs.get("device")
        moves = function is torch.ops.aten._to_copy.default
        if there and mixed and not moves and function is not torch.ops.aten.copy_.default:
            shapes = [tuple(x.shape) for x in mixed]
            raise MixedDevices(f"{function} of tensors on both devices; on the CPU: {shapes}")
        lands_there = bool(there) if device is None else torch.device(device) == THERE
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        args, kwargs = tree_map(_here, (args, kwargs))
        if function is torch.ops.aten.mv.default and args[0].ndim == 1:
            function = torch.ops.aten.dot.default  # as which a product of vectors arrives here
        out = function(*args, **kwargs)
        return tree_map(_there, out) if lands_there else out


class _Numbers(TorchFunctionMode):
    """What torch builds or reads without telling a dispatch mode."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.tensor and kwargs.get("device") == THERE:
            del kwargs["device"]
            return Elsewhere(function(*args, **kwargs))
        if function is Tensor.tolist:
            return _here(args[0]).tolist()
        return function(*args, **kwargs)


@contextmanager
def devices_apart() -> Iterator[None]:
    """Inside, no operation may mix tensors of the two devices."""
    with _Numbers(), _Devices():
        yield


Module = TypeVar("Module", bound=nn.Module)


def moved(module: Module) -> Module:
    """A module with all its tensors on the pretended device."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                part._parameters[name] = nn.Parameter(Elsewhere(weight.detach()), False)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = Elsewhere(value)
    return module
