"""Filling a model's parameters from the tensors of safetensors files, read one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from harness.errors import HarnessError
from harness.models.gathered import own_rows
from harness.models.loading.stored import Stored
from harness.models.loading.translation import (
    TensorSource,
    Translation,
    check_fit,
    misfit,
    unchanged,
)
from harness.models.loading.weight_sparse.pickled import pickled_state
from harness.models.loading.weight_sparse.sparse_tensors import PLACES, VALUES, dense
from harness.models.transformer import Transformer
from harness.spec.printable import printable

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}


class TensorFiles(Mapping[str, Stored]):
    """The tensors of one checkpoint by name."""

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> Stored:
        return self._stored[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def read(self, name: str, rows: range | None = None) -> Tensor:
        """One tensor, or some of its rows, which alone are then read where it is stored as it is.

        The file is mapped for this read alone, which keeps resident memory low.
        Raises `HarnessError` if the file is no longer what its header was.
        """
        stored = self._stored[name]
        path = stored.file
        some = slice(None) if rows is None else slice(rows.start, rows.stop)
        if path.suffix == ".pt":
            return _of_state(path, name)[some]
        try:
            with safe_open(path, framework="pt") as file:
                if not stored.sparse:
                    part = file.get_tensor(name) if rows is None else file.get_slice(name)[some]
                    tensor: Tensor = part
                    return tensor
                parts = [file.get_tensor(f"{name}{part}") for part in (VALUES, PLACES)]
            return dense(parts[0], parts[1], stored.shape)[some]
        except (SafetensorError, OSError) as error:
            raise HarnessError(f"{path}: cannot be read: {error}") from error
        except ValueError as error:
            raise HarnessError(f"{path}: {printable(name[:80])} is damaged: {error}") from error

    def dtype(self, names: Iterable[str]) -> torch.dtype:
        """The precision that holds all these tensors without loss."""
        widest = None
        for name in names:
            kind = _DTYPES[self._stored[name].kind]
            widest = kind if widest is None else torch.promote_types(widest, kind)
        return widest or torch.float32


def _of_state(path: Path, name: str) -> Tensor:
    state = pickled_state(path)
    if name not in state:
        raise HarnessError(f"{path}: {name} is gone; the file changed while it was read")
    return state[name]


@torch.no_grad()
def build_model(
    translation: Translation,
    files: TensorFiles,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    mesh: DeviceMesh | None = None,
) -> Transformer:
    """The model, frozen, in precision `dtype` (None: as stored) on `device`.

    With a `mesh`, its blocks lie in shards over those processes: each fills its own. Beside the
    model there is never more than one tensor in memory. Raises `HarnessError` as `check_fit` does,
    and for shards of weights that can only be read all at once, before anything is built.
    """
    check_fit(translation, files)
    if mesh is not None:
        _refuse_pickled(files)
    with torch.device("meta"):
        model = Transformer(translation.config)
    model.to(dtype or files.dtype(translation.used())).requires_grad_(False)
    if mesh is not None:
        model.shard(mesh)
    model.to_empty(device=device)
    parameters = dict(model.named_parameters())
    for name, source in translation.sources.items():
        _fill(name, parameters[name], source, files)
    _check_unused(translation, files, parameters)
    return model.eval()


def _check_unused(
    translation: Translation, files: TensorFiles, parameters: Mapping[str, Tensor]
) -> None:
    """Tensors that are not loaded must hold nothing that the loaded ones lack."""
    for name in files.keys() & translation.repeated.keys():
        ours = parameters[translation.repeated[name]]
        if not torch.equal(files.read(name).to(ours), ours):
            raise HarnessError(
                f"{files[name].file}: {name} is not the embedding, though the configuration ties "
                "both; set `tie_word_embeddings: false` if that is meant"
            )
    for name in files.keys() & set(translation.zero):
        if files.read(name).any():
            raise HarnessError(
                f"{files[name].file}: {name} has no counterpart here and is not zero"
            )


def _fill(name: str, parameter: Tensor, source: TensorSource, files: TensorFiles) -> None:
    own, rows = own_rows(parameter)
    if not source.names:
        own.fill_(source.constant)
        return
    parts, start = source.names, 0
    for tensor in parts:
        shape = source.change.shape(files[tensor].shape)
        assert shape is not None  # it fits
        stop = start + shape[0]
        first, last = max(start, rows.start), min(stop, rows.stop)
        if first < last:
            wanted = range(first - start, last - start)
            part = _rows_of(tensor, source, files, wanted if len(wanted) < shape[0] else None)
            room = own[first - rows.start : last - rows.start]
            if part.shape != room.shape:
                raise misfit(files, f"{tensor} changed its shape while {name} was read")
            room.copy_(part)
        start = stop


def _rows_of(name: str, source: TensorSource, files: TensorFiles, rows: range | None) -> Tensor:
    """A tensor as it is changed, or some rows of that; alone read where nothing is changed."""
    if rows is None:
        return source.change(files.read(name))
    if source.change is unchanged:
        return files.read(name, rows)
    return source.change(files.read(name))[rows.start : rows.stop]


def _refuse_pickled(files: TensorFiles) -> None:
    for stored in files.values():
        if stored.file.suffix == ".pt":
            raise HarnessError(
                f"{stored.file}: this checkpoint can only be read whole, and with `runtime.shards` "
                "no process may hold all weights; leave `shards` at 1"
            )
