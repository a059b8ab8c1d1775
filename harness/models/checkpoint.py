"""Weights on disk: `config.json` and `model.safetensors`. Loading never unpickles.

Models are saved under our own names; checkpoints of other programs are read as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.loading.fields import Fields
from harness.models.loading.folder import (
    CONFIG,
    WEIGHTS,
    detect_format,
    model_files,
    read_config,
)
from harness.models.loading.huggingface import huggingface
from harness.models.loading.tensors import TensorFiles
from harness.models.loading.transformer_lens import transformer_lens
from harness.models.loading.translation import TensorSource, Translation, build_model
from harness.models.transformer import Transformer
from harness.spec.types import ModelFormat

SAVE_SECONDS = 30.0
"""How often a long training or search saves its state."""

_READERS: Mapping[str | None, Callable[[Fields, Collection[str]], Translation]] = {
    "huggingface": huggingface,
    "transformer_lens": transformer_lens,
}


def save_model(model: Transformer, folder: Path) -> None:
    """Write configuration and weights into an existing folder."""
    text = json.dumps(model.config.to_dict(), indent=1, sort_keys=True) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")
    weights = {name: value.detach().cpu().contiguous() for name, value in model.named_parameters()}
    save_file(weights, folder / WEIGHTS)


def load_model(
    folder: Path,
    kind: ModelFormat = "auto",
    *,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
) -> Transformer:
    """Read a model from a folder, frozen and in evaluation mode; see `harness.models.loading`.

    `kind` says whose `config.json` it is (`auto`: by its keys). Weights get precision `dtype` and
    go to `device` as they are read; None keeps the checkpoint's own precision. Raises
    `HarnessError` naming the missing file, the unsupported field, or the tensors that do not fit.
    """
    weights = [path for path in model_files(folder) if path.suffix == ".safetensors"]
    config = read_config(folder)
    reader = _READERS.get(detect_format(config) if kind == "auto" else kind)
    if reader is None:
        translation, files = _own(config, folder), TensorFiles(weights)
    else:
        files = TensorFiles(weights)
        translation = reader(Fields(config, folder / CONFIG), files.keys())
    return build_model(translation, files, dtype, device)


def config_of_folder(folder: Path, kind: ModelFormat = "auto") -> TransformerConfig:
    """The shape that a folder's `config.json` states; its weights need not be there.

    Raises `HarnessError` as `load_model` does, and for TransformerLens, whose `config.json` does
    not state which biases exist.
    """
    config = read_config(folder)
    kind = (detect_format(config) or "harness") if kind == "auto" else kind
    if kind == "transformer_lens":
        raise HarnessError(
            f"{folder / CONFIG}: a configuration of TransformerLens does not say which biases "
            "there are; the shape is known from the weights alone"
        )
    if kind == "huggingface":
        return huggingface(Fields(config, folder / CONFIG), ()).config
    return _own_config(config, folder)


def _own_config(config: dict[str, Any], folder: Path) -> TransformerConfig:
    try:
        return TransformerConfig.from_dict(config)
    except HarnessError as error:
        raise HarnessError(f"{folder / CONFIG}: {error}") from error


def _own(config: dict[str, Any], folder: Path) -> Translation:
    """The translation of what `save_model` wrote: every parameter under its own name."""
    shape = _own_config(config, folder)
    with torch.device("meta"):
        names = [name for name, _ in Transformer(shape).named_parameters()]
    return Translation(shape, {name: TensorSource((name,)) for name in names})


def save_state(tensors: dict[str, Tensor], note: str, path: Path) -> None:
    """Write tensors and one text atomically: an interrupted write leaves the old file."""
    partial = path.with_suffix(".partial")
    flat = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(flat, partial, metadata={"note": note})  # one key: more would vary in order
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def load_state(path: Path) -> tuple[dict[str, Tensor], str] | None:
    """What `save_state` wrote, or None where there is no (whole) file."""
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        note = (file.metadata() or {}).get("note", "")
        return {name: torch.as_tensor(file.get_tensor(name)) for name in file.keys()}, note  # noqa: SIM118
