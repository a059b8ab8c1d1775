"""Tensors of safetensors files by name, read one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from harness.errors import HarnessError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}


@dataclass(frozen=True)
class Stored:
    """The file, shape and precision (in safetensors' words) of a tensor on disk."""

    file: Path
    shape: tuple[int, ...]
    kind: str


class TensorFiles(Mapping[str, Stored]):
    """The tensors of one checkpoint by name. Raises `HarnessError` for a broken file."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._stored: dict[str, Stored] = {}
        for path in paths:
            self._stored |= _contents(path)

    def __getitem__(self, name: str) -> Stored:
        return self._stored[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def read(self, name: str) -> Tensor:
        """One tensor. The file is mapped for this read alone, which keeps resident memory low."""
        with safe_open(self._stored[name].file, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    def dtype(self, names: Iterable[str]) -> torch.dtype:
        """The precision that holds all these tensors without loss."""
        widest = None
        for name in names:
            stored = self._stored[name]
            if stored.kind not in _DTYPES:
                raise HarnessError(
                    f"{stored.file}: {name} is stored as {stored.kind}; only "
                    f"{', '.join(_DTYPES)} are read (no quantised weights)"
                )
            kind = _DTYPES[stored.kind]
            widest = kind if widest is None else torch.promote_types(widest, kind)
        return widest or torch.float32


def _contents(path: Path) -> dict[str, Stored]:
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: Stored(path, tuple(one.get_shape()), one.get_dtype())
                for name, one in slices.items()
            }
    except SafetensorError as error:
        raise HarnessError(f"{path}: not a safetensors file: {error}") from error
