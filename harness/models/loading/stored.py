"""What the headers of safetensors files say of the tensors inside. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from harness.errors import HarnessError
from harness.spec.printable import printable

LONGEST_HEADER = 2**24
"""Bytes of the header of one file, and of `config.json` and the index."""


@dataclass(frozen=True)
class Stored:
    """The file, shape and precision (in safetensors' words) of a tensor on disk."""

    file: Path
    shape: tuple[int, ...]
    kind: str


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
            return {
                name: Stored(path, tuple(one.get_shape()), one.get_dtype())
                for name, one in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise HarnessError(f"{path}: not a safetensors file: {error}") from error


def _cut(name: str) -> str:
    return printable(name[:80])
