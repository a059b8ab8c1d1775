"""Tensors most of whose entries are zero, in a safetensors file: the others, and where they stand.

A tensor `name` of n entries is stored as `name.values`, its entries that are not zero in order, and
`name.places`, uint8 [⌈n/8⌉], a bit for each entry, the first one highest. The metadata entry
`sparse` is JSON: the shape of each such tensor by name. What is read is exactly what was written.
Torch is needed for writing and reading the entries alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import HarnessError
from harness.spec.printable import printable

if TYPE_CHECKING:
    from torch import Tensor

METADATA = "sparse"
VALUES, PLACES = ".values", ".places"
_MOST_DIMENSIONS = 8

Shape = tuple[int, ...]


def sparse_form(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, str] | None]:
    """Return tensors for a file, and its metadata: matrices that are at most half as large so.

    Where there are none, the tensors are returned as they are, without metadata.
    """
    stored: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in tensors.items():
        parts = _parts(tensor) if tensor.ndim >= 2 else None
        if parts is None:
            stored[name] = tensor
        else:
            shapes[name] = list(tensor.shape)
            stored[f"{name}{VALUES}"], stored[f"{name}{PLACES}"] = parts
    metadata = {METADATA: json.dumps(shapes, sort_keys=True)} if shapes else None
    return stored, metadata


def _parts(tensor: Tensor) -> tuple[Tensor, Tensor] | None:
    """Values and places of a tensor; None if they take more than half of its bytes."""
    import torch

    at = (tensor != 0) | tensor.signbit()  # -0.0 is kept, so that every bit comes back
    places = np.packbits(at.cpu().numpy().reshape(-1))
    if 2 * (int(at.sum()) * tensor.element_size() + len(places)) > tensor.nbytes:
        return None
    return tensor[at].contiguous(), torch.from_numpy(places)


def sparse_shapes(metadata: Mapping[str, str], path: Path) -> dict[str, Shape]:
    """Return the shapes of a file's sparse tensors by name; `HarnessError` for other metadata."""
    if METADATA not in metadata:
        return {}
    try:
        shapes = json.loads(metadata[METADATA])
    except (ValueError, RecursionError) as error:
        raise HarnessError(f"{path}: its metadata `{METADATA}` is not JSON: {error}") from error
    if not isinstance(shapes, dict) or not all(map(_is_shape, shapes.values())):
        raise HarnessError(f"{path}: its metadata `{METADATA}` must map tensors to their shapes")
    return {name: tuple(shape) for name, shape in shapes.items()}


def _is_shape(value: object) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= _MOST_DIMENSIONS
        and all(type(size) is int and 0 <= size < 2**48 for size in value)
    )


def require_parts(name: str, shape: Shape, parts: Mapping[str, tuple[Shape, str]]) -> str:
    """Return the precision of a sparse tensor.

    `parts`: shape and precision (in safetensors' words) of what a file holds, by name. Raises
    `HarnessError`, without the name of the file, unless both parts are there and can be of such a
    tensor.
    """
    short = printable(name[:80])
    if name in parts:
        raise HarnessError(f"{short} is in it twice, as a whole and in parts")
    if missing := [part for part in (VALUES, PLACES) if f"{name}{part}" not in parts]:
        raise HarnessError(f"{short} is stored in parts, and {short}{missing[0]} is missing")
    (values, kind), (places, bits) = parts[f"{name}{VALUES}"], parts[f"{name}{PLACES}"]
    size = math.prod(shape)
    if bits != "U8" or places != (-(-size // 8),):
        raise HarnessError(
            f"{short}{PLACES} is {bits} {list(places)}, which is not a bit for each of the {size} "
            f"entries of shape {list(shape)}"
        )
    if len(values) != 1 or values[0] > size:
        raise HarnessError(
            f"{short}{VALUES} has shape {list(values)}, which is no list of at most {size} entries"
        )
    return kind


def dense(values: Tensor, places: Tensor, shape: Shape) -> Tensor:
    """Return the tensor that was stored; ValueError if there are other places than values."""
    import torch

    size = math.prod(shape)
    bits = np.unpackbits(places.numpy())
    at = torch.from_numpy(bits[:size]).bool()
    if bits[size:].any() or int(at.sum()) != len(values):
        raise ValueError(f"it has {int(bits.sum())} places for {len(values)} values")
    tensor = values.new_zeros(size)
    tensor[at] = values
    return tensor.view(shape)
