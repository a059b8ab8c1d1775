"""Filling a model's parameters from the tensors of a checkpoint, one at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.loading.tensors import TensorFiles
from harness.models.transformer import Transformer


def unchanged(tensor: Tensor) -> Tensor:
    """The tensor as it is."""
    return tensor


@dataclass(frozen=True)
class TensorSource:
    """Where a parameter comes from: tensors, each changed, then stacked as rows.

    Without tensors the parameter is `constant` everywhere.
    """

    names: tuple[str, ...]
    change: Callable[[Tensor], Tensor] = unchanged
    constant: float = 0.0


@dataclass(frozen=True)
class Translation:
    """Our configuration of a checkpoint and the source of each of our parameters.

    `ignored`: a pattern for tensors that are not weights. `repeated`: tensors that must equal one
    of our parameters, because the checkpoint holds a tied matrix twice. `zero`: tensors without a
    counterpart here, which must be zero where they exist.
    """

    config: TransformerConfig
    sources: Mapping[str, TensorSource]
    ignored: str = r"(?!)"
    repeated: Mapping[str, str] = field(default_factory=dict)
    zero: tuple[str, ...] = ()

    def used(self) -> list[str]:
        """Names of all tensors that parameters come from."""
        return [name for source in self.sources.values() for name in source.names]


@torch.no_grad()
def build_model(
    translation: Translation,
    files: TensorFiles,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
) -> Transformer:
    """The model, frozen, in precision `dtype` (None: as stored) on `device`.

    Beside the model there is never more than one tensor in memory. Raises `HarnessError` naming
    the tensors that are missing, unknown, or of another shape than the configuration says.
    """
    _check_names(translation, files)
    with torch.device("meta"):
        model = Transformer(translation.config)
    model.to(dtype or files.dtype(translation.used())).to_empty(device=device)
    parameters = dict(model.named_parameters())
    if parameters.keys() != translation.sources.keys():
        odd = parameters.keys() ^ translation.sources.keys()
        raise RuntimeError(f"a translation must give every parameter once: {sorted(odd)[:4]}")
    for name, source in translation.sources.items():
        _fill(name, parameters[name], source, files)
    _check_unused(translation, files, parameters)
    return model.requires_grad_(False).eval()


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


def _check_names(translation: Translation, files: TensorFiles) -> None:
    wanted, extra = set(translation.used()), re.compile(translation.ignored)
    expected = wanted | translation.repeated.keys() | set(translation.zero)
    faults = [f"missing {name}" for name in sorted(wanted - files.keys())]
    faults += [
        f"unknown {name} {files[name].shape}"
        for name in sorted(files.keys() - expected)
        if not extra.fullmatch(name)
    ]
    if faults:
        more = f" (and {len(faults) - 8} more)" if len(faults) > 8 else ""
        raise _misfit(files, "; ".join(faults[:8]) + more)


def _fill(name: str, parameter: Tensor, source: TensorSource, files: TensorFiles) -> None:
    if not source.names:
        parameter.fill_(source.constant)
        return
    room = parameter
    for tensor in source.names:
        read = files.read(tensor)
        try:
            part = source.change(read)
        except (RuntimeError, IndexError) as error:
            raise _wrong_shape(name, parameter, source.names, files) from error
        if part.shape[1:] != room.shape[1:] or len(part) > len(room):
            raise _wrong_shape(name, parameter, source.names, files)
        room[: len(part)].copy_(part)
        room = room[len(part) :]
    if len(room):
        raise _wrong_shape(name, parameter, source.names, files)


def _wrong_shape(
    name: str, parameter: Tensor, tensors: Iterable[str], files: TensorFiles
) -> HarnessError:
    shapes = " and ".join(f"{one} has shape {files[one].shape}" for one in tensors)
    return _misfit(files, f"{shapes}, the configuration says {tuple(parameter.shape)} for {name}")


def _misfit(files: TensorFiles, text: str) -> HarnessError:
    folder = next(iter(files.values())).file.parent if len(files) else "the checkpoint"
    return HarnessError(f"the weights in {folder} do not fit its config.json: {text}")


def prefix_of(ending: str, tensors: Iterable[str], usual: str) -> str:
    """What stands before the tensor that ends in `ending`; `usual` if there is not exactly one."""
    prefixes = [name.removesuffix(ending) for name in tensors if name.endswith(ending)]
    return prefixes[0] if len(prefixes) == 1 else usual
