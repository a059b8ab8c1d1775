"""The files of a checkpoint's folder, and which program wrote them. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from harness.errors import HarnessError, NotFound

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"

Format = Literal["harness", "huggingface", "transformer_lens"]
_TELLTALE: Mapping[str, Format] = {
    "model_type": "huggingface",
    "act_fn": "transformer_lens",
    "attn_only": "transformer_lens",
    "activation": "harness",
}
WITH_POST_NORMS = ("gemma2", "gemma3", "gemma3_text")
"""Families of `transformers` whose configuration here has `post_norms`."""

_PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


def weight_files(folder: Path) -> tuple[Path, ...]:
    """`model.safetensors`, or the shards that the index names; `NotFound` if one is missing."""
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    shards = sorted(set(_shards(folder / INDEX).values()))
    if missing := [name for name in shards if not (folder / name).is_file()]:
        raise NotFound(
            f"model folder {folder} has no {' and no '.join(missing[:4])}, of the {len(shards)} "
            f"files that {INDEX} names; fetch the missing ones"
        )
    return tuple(folder / name for name in shards)


def model_files(folder: Path) -> tuple[Path, ...]:
    """All files of a model, configuration and weights. `NotFound` if one is missing."""
    missing = [] if (folder / CONFIG).is_file() else [CONFIG]
    if not any((folder / name).is_file() for name in (WEIGHTS, INDEX)):
        missing.append(WEIGHTS)
    if missing:
        raise NotFound(
            f"model folder {folder} has no {' and no '.join(missing)}{_advice(folder, missing)}"
        )
    index = () if (folder / WEIGHTS).is_file() else (folder / INDEX,)
    return (folder / CONFIG, *index, *weight_files(folder))


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` as plain data."""
    return _json_object(folder / CONFIG)


def detect_format(config: Mapping[str, Any]) -> Format | None:
    """Which program wrote a configuration, by a key that it alone uses; None if unknown."""
    return next((kind for key, kind in _TELLTALE.items() if key in config), None)


def has_post_norms(folder: Path) -> bool:
    """Whether what attention writes is normalised once more on its way (Gemma 2 and 3)."""
    config = read_config(folder)
    return config.get("post_norms") is True or config.get("model_type") in WITH_POST_NORMS


def _shards(index: Path) -> dict[str, str]:
    names = _json_object(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(one, str) for one in names.values()):
        raise HarnessError(f"{index}: `weight_map` must map tensors to files")
    if paths := [one for one in names.values() if Path(one).name != one]:
        raise HarnessError(f"{index}: {paths[0]!r} is not the name of a file in this folder")
    return names


def _json_object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise HarnessError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise HarnessError(f"{path}: must hold one object")
    return data


def _advice(folder: Path, missing: list[str]) -> str:
    pickled = sorted(path.name for kind in _PICKLED for path in folder.glob(kind))
    if WEIGHTS not in missing or not pickled:
        return ""
    return (
        f"; {pickled[0]} is a pickle, which is never opened here: save the model again as "
        "safetensors (in `transformers`: from_pretrained, then save_pretrained)"
    )
