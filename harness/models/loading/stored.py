"""What the headers of safetensors files say of the tensors inside. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from harness.errors import HarnessError
from harness.models.loading.weight_sparse.sparse_tensors import (
    PLACES,
    VALUES,
    require_parts,
    sparse_shapes,
)
from harness.spec.printable import printable

LONGEST_HEADER = 2**24
"""Bytes of the header of one file, and of `config.json` and the index."""


@dataclass(frozen=True)
class Stored:
    """The file, shape and precision (in safetensors' words) of a tensor on disk.

    `sparse`: whether the file holds its entries that are not zero, and their places.
    """

    file: Path
    shape: tuple[int, ...]
    kind: str
    sparse: bool = False


def stored_tensors(
    paths: Iterable[Path], index: Mapping[str, str] | None = None
) -> dict[str, Stored]:
    """The tensors of one checkpoint by name, in its files in order.

    `index`: the file that each tensor is in, by name, as the index of shards states it. Raises
    `HarnessError` for a file that is not of this form, a tensor that stands in two of them, and
    one that is not where the index says.
    """
    stored: dict[str, Stored] = {}
    for path in paths:
        for name, one in _contents(path).items():
            if name in stored:
                raise HarnessError(
                    f"{path}: {_cut(name)} stands in {stored[name].file.name} too, and only one of "
                    "both can be loaded; remove one"
                )
            stored[name] = one
    for name, file in (index or {}).items():
        if name in stored and stored[name].file.name != file:
            raise HarnessError(
                f"{stored[name].file}: {_cut(name)} is in this file, and the index says that it is "
                f"in {_cut(file)}"
            )
    return stored


def _contents(path: Path) -> dict[str, Stored]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > LONGEST_HEADER and length < path.stat().st_size:
            raise HarnessError(
                f"{path}: its header has {length} bytes, and at most {LONGEST_HEADER} are read"
            )
        with safe_open(path, framework="np") as tensors:
            slices = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118
            parts = {
                name: (tuple(one.get_shape()), str(one.get_dtype())) for name, one in slices.items()
            }
            metadata = tensors.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise HarnessError(f"{path}: not a safetensors file: {error}") from error
    return _whole(parts, sparse_shapes(metadata, path), path)


def _whole(
    parts: Mapping[str, tuple[tuple[int, ...], str]],
    shapes: Mapping[str, tuple[int, ...]],
    path: Path,
) -> dict[str, Stored]:
    """A file's tensors: those stored as they are, and those stored in parts by their shapes."""
    stored = {}
    for name, shape in shapes.items():
        try:
            stored[name] = Stored(path, shape, require_parts(name, shape, parts), sparse=True)
        except HarnessError as error:
            raise HarnessError(f"{path}: {error}") from error
    used = {f"{name}{part}" for name in shapes for part in (VALUES, PLACES)}
    return stored | {name: Stored(path, *one) for name, one in parts.items() if name not in used}


def _cut(name: str) -> str:
    return printable(name[:80])
