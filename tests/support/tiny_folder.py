"""Folders with a tiny model in this package's form, written without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from harness.models.config import TransformerConfig
from harness.models.shapes import parameter_shapes

FILES = ("config.json", "model.safetensors")
SIZES = {"n_layers": 1, "n_heads": 1, "d_model": 2, "d_head": 2, "d_mlp": 2, "d_vocab": 64}


def write_model(folder: Path, files: Sequence[str] = FILES, **shape: Any) -> None:
    """Those of a model's two files that are asked for; weights are zeros."""
    config = TransformerConfig(**{**SIZES, "n_ctx": 64, **shape})
    folder.mkdir(parents=True, exist_ok=True)
    if "config.json" in files:
        (folder / "config.json").write_text(json.dumps(config.to_dict()))
    if "model.safetensors" in files:
        shapes = parameter_shapes(config).items()
        zeros = {name: np.zeros(size, np.float32) for name, size in shapes}
        save_file(zeros, folder / "model.safetensors")
