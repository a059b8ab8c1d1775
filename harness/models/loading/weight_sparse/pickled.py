"""Tensors of a file of `torch.save`, read without running any code that it may hold.

`torch.load(weights_only=True)` makes tensors and plain containers of a pickle, and nothing else.
The file is mapped, so that a tensor takes memory only once it is read.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError
from harness.models.loading.stored import Stored
from harness.spec.printable import printable

if TYPE_CHECKING:
    from torch import Tensor

_KINDS = {"float64": "F64", "float32": "F32", "bfloat16": "BF16", "float16": "F16"}


def unpickled(path: Path) -> Any:
    """What a file of `torch.save` holds. Raises `HarnessError` for any other file, or for one
    whose pickle asks for more than tensors and plain containers.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise HarnessError(
            f"{path}: refused, since its pickle asks for more than tensors and plain containers; "
            "save the state dict alone, with torch.save"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        first = printable(str(error).strip().partition("\n")[0][:200])
        raise HarnessError(f"{path}: not a file of torch.save: {first}") from error


def pickled_state(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a state dict by name; `HarnessError` for anything else."""
    import torch

    state = unpickled(path)
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise HarnessError(f"{path}: holds no state dict, tensors by name")
    if others := [name for name, one in state.items() if not isinstance(one, torch.Tensor)]:
        raise HarnessError(f"{path}: {printable(others[0][:80])} is no tensor")
    return state


def pickled_tensors(path: Path) -> dict[str, Stored]:
    """What is to be known of the tensors of a state dict before they are read."""
    return {
        name: Stored(path, tuple(one.shape), _kind(one))
        for name, one in pickled_state(path).items()
    }


def _kind(tensor: Tensor) -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    return _KINDS.get(name, name)
