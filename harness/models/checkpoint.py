"""Weights on disk: `config.json` and `model.safetensors`. Loading never unpickles.

Models are saved under our own names; checkpoints of other programs are read as well.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.models.loading.folder import CONFIG, WEIGHTS
from harness.models.loading.read import read_checkpoint
from harness.models.loading.tensors import TensorFiles, build_model
from harness.models.transformer import Transformer
from harness.spec.types import ModelFormat

SAVE_SECONDS = 30.0
"""How often a long training or search saves its state."""


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
    checkpoint = read_checkpoint(folder, kind)
    return build_model(checkpoint.translation, TensorFiles(checkpoint.stored), dtype, device)


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
