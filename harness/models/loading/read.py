"""A folder's model as far as `config.json` and the headers of its weights tell. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.loading.fields import Fields
from harness.models.loading.folder import (
    CONFIG,
    SPARSE_CONFIG,
    SPARSE_WEIGHTS,
    Format,
    detect_format,
    index_of,
    is_circuit_sparsity,
    model_files,
    read_config,
    weight_files,
)
from harness.models.loading.huggingface import huggingface
from harness.models.loading.research.mingpt import mingpt
from harness.models.loading.stored import Stored, stored_tensors
from harness.models.loading.transformer_lens import transformer_lens
from harness.models.loading.translation import (
    TensorSource,
    Translation,
    check_fit,
    leave_out_tokens,
)
from harness.models.loading.weight_sparse.checkpoint import circuit_sparsity
from harness.models.loading.weight_sparse.pickled import pickled_tensors
from harness.models.shapes import parameter_shapes
from harness.spec.types import ModelFormat

_READERS: Mapping[Format, Callable[[Fields, Collection[str]], Translation]] = {
    "huggingface": huggingface,
    "transformer_lens": transformer_lens,
    "mingpt": mingpt,
}


@dataclass(frozen=True)
class StoredModel:
    """A model that can be loaded: its tensors on disk, and how they become our parameters."""

    translation: Translation
    stored: Mapping[str, Stored]

    @property
    def config(self) -> TransformerConfig:
        """The shape of the model."""
        return self.translation.config


def read_checkpoint(
    folder: Path, kind: ModelFormat = "auto", without_tokens: Collection[int] = ()
) -> StoredModel:
    """Read all of a model's folder but the weights; see `harness.models.loading`.

    `kind` says whose `config.json` it is (`auto`: by its keys); `without_tokens`: see
    `leave_out_tokens`. Raises `NotFound` for a missing file and `HarnessError` naming the
    unsupported field, or the tensors that do not fit.
    """
    model_files(folder, kind)  # all are there
    if is_circuit_sparsity(folder, kind):
        return _sparse(folder, without_tokens)
    config = read_config(folder)
    form = _format(config, kind)
    own = _own_config(config, folder) if form == "harness" else None
    stored = stored_tensors(weight_files(folder), index_of(folder))
    if own is not None:
        translation = _own(own, folder, len(stored))
    else:
        fields = Fields(config, folder / CONFIG, most_layers=len(stored))
        translation = _placed(lambda: _READERS[form](fields, stored.keys()), folder / CONFIG)
    if without_tokens:
        translation = _placed(
            lambda: leave_out_tokens(translation, without_tokens), folder / CONFIG
        )
    check_fit(translation, stored)
    return StoredModel(translation, stored)


def config_of_folder(folder: Path, kind: ModelFormat = "auto") -> TransformerConfig:
    """The shape that a folder's `config.json` states; its weights need not be there.

    Raises `HarnessError` as `read_checkpoint` does, and for TransformerLens, whose `config.json`
    does not state which biases exist. For openai/circuit_sparsity weights are read too: they alone
    say whether there are positions.
    """
    if is_circuit_sparsity(folder, kind):
        return _sparse(folder).config
    config = read_config(folder)
    form = _format(config, kind)
    if form == "transformer_lens":
        raise HarnessError(
            f"{folder / CONFIG}: a configuration of TransformerLens does not say which biases "
            "there are; the shape is known from the weights alone"
        )
    if form == "huggingface":
        fields = Fields(config, folder / CONFIG)
        return _placed(lambda: huggingface(fields, ()), folder / CONFIG).config
    return _own_config(config, folder)


def _sparse(folder: Path, without_tokens: Collection[int] = ()) -> StoredModel:
    """A model that openai/circuit_sparsity saved."""
    path, weights = folder / SPARSE_CONFIG, folder / SPARSE_WEIGHTS
    stored = pickled_tensors(weights)
    fields = Fields(read_config(folder, SPARSE_CONFIG), path, most_layers=len(stored))
    translation = _placed(lambda: circuit_sparsity(fields, weights), path)
    if without_tokens:
        translation = _placed(lambda: leave_out_tokens(translation, without_tokens), path)
    check_fit(translation, stored)
    return StoredModel(translation, stored)


def _format(config: Mapping[str, Any], kind: ModelFormat) -> Format:
    if kind == "auto":
        return detect_format(config) or "harness"
    return "harness" if kind == "circuit_sparsity" else kind  # read before, from its own files


def _placed(read: Callable[[], Translation], path: Path) -> Translation:
    """What `read` returns; its errors name the configuration, or the file beside it."""
    try:
        return read()
    except HarnessError as error:
        text = str(error)
        named = text.startswith(str(path.parent))
        raise HarnessError(text if named else f"{path}: {text}") from error


def _own_config(config: dict[str, Any], folder: Path) -> TransformerConfig:
    try:
        return TransformerConfig.from_dict(config)
    except HarnessError as error:
        raise HarnessError(f"{folder / CONFIG}: {error}") from error


def _own(shape: TransformerConfig, folder: Path, tensors: int) -> Translation:
    """The translation of what `save_model` wrote: every parameter under its own name."""
    if shape.n_layers > tensors:
        raise HarnessError(
            f"{folder / CONFIG}: n_layers is {shape.n_layers}, and the weights are {tensors} "
            "tensors, fewer than one per layer"
        )
    return Translation(shape, {name: TensorSource((name,)) for name in parameter_shapes(shape)})
