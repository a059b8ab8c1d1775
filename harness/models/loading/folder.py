"""The files of a checkpoint's folder, and which program wrote them. Needs no torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from harness.errors import HarnessError, NotFound
from harness.models.loading.stored import LONGEST_HEADER
from harness.spec.printable import printable, quoted
from harness.spec.types import ModelFormat

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SPARSE_CONFIG, SPARSE_WEIGHTS = "beeg_config.json", "final_model.pt"
"""Of a model that openai/circuit_sparsity saved."""

Format = Literal["harness", "huggingface", "transformer_lens", "mingpt"]
_TELLTALE: Mapping[str, Format] = {
    "model_type": "huggingface",
    "act_fn": "transformer_lens",
    "attn_only": "transformer_lens",
    "activation": "harness",
    "block_size": "mingpt",
}
WITH_POST_NORMS = ("gemma2", "gemma3", "gemma3_text")
"""Families of `transformers` whose configuration here has `post_norms`."""

_PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_LONGEST_NAME = 255  # bytes, as file systems have it
_LONGEST_INTEGER = 19  # digits; longer ones become floats, which no size is
_CONVERT_HUGGINGFACE = """
    from transformers import AutoModelForCausalLM
    AutoModelForCausalLM.from_pretrained({folder!r}).save_pretrained({folder!r})"""
_CONVERT_STATE = """
    import torch; from safetensors.torch import save_file; state = torch.load({file!r}, "cpu")
    save_file({{name: one.clone().contiguous() for name, one in state.items()}}, {weights!r})"""


def weight_files(folder: Path) -> tuple[Path, ...]:
    """`model.safetensors`, or the shards that the index names; `NotFound` if one is missing."""
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    shards = sorted(set(index_of(folder).values()))
    if missing := [name for name in shards if not (folder / name).is_file()]:
        raise NotFound(
            f"model folder {folder} has no {' and no '.join(missing[:4])}, of the {len(shards)} "
            f"files that {INDEX} names; fetch the missing ones"
        )
    return tuple(folder / name for name in shards)


def model_files(folder: Path, kind: ModelFormat = "auto") -> tuple[Path, ...]:
    """All files of a model, configuration and weights. `NotFound` if one is missing."""
    if is_circuit_sparsity(folder, kind):
        files = (folder / SPARSE_CONFIG, folder / SPARSE_WEIGHTS)
        if absent := [file.name for file in files if not file.is_file()]:
            raise NotFound(f"model folder {folder} has no {' and no '.join(absent)}")
        return files
    missing = [] if (folder / CONFIG).is_file() else [CONFIG]
    if not any((folder / name).is_file() for name in (WEIGHTS, INDEX)):
        missing.append(WEIGHTS)
    if missing:
        raise NotFound(
            f"model folder {folder} has no {' and no '.join(missing)}{_advice(folder, missing)}"
        )
    index = () if (folder / WEIGHTS).is_file() else (folder / INDEX,)
    return (folder / CONFIG, *index, *weight_files(folder))


def is_circuit_sparsity(folder: Path, kind: ModelFormat = "auto") -> bool:
    """Whether a folder is read as a model that openai/circuit_sparsity saved.

    `auto`: if it has the configuration of one, and no other.
    """
    if kind != "auto":
        return kind == "circuit_sparsity"
    return (folder / SPARSE_CONFIG).is_file() and not (folder / CONFIG).is_file()


def read_config(folder: Path, name: str = CONFIG) -> dict[str, Any]:
    """`config.json`, or the configuration of another name, as plain data."""
    return _json_object(folder / name)


def detect_format(config: Mapping[str, Any]) -> Format | None:
    """Which program wrote a configuration, by a key that it alone uses; None if unknown."""
    return next((kind for key, kind in _TELLTALE.items() if key in config), None)


def has_post_norms(folder: Path, kind: ModelFormat = "auto") -> bool:
    """Whether what attention writes is normalised once more on its way (Gemma 2 and 3)."""
    if is_circuit_sparsity(folder, kind):
        return False
    config = read_config(folder)
    return config.get("post_norms") is True or config.get("model_type") in WITH_POST_NORMS


def index_of(folder: Path) -> dict[str, str]:
    """The shard that each tensor is in, by name; empty for a model of one file."""
    if (folder / WEIGHTS).is_file():
        return {}
    index = folder / INDEX
    names = _json_object(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(one, str) for one in names.values()):
        raise HarnessError(f"{index}: `weight_map` must map tensors to files")
    if paths := [one for one in names.values() if not _is_file_name(one)]:
        raise HarnessError(f"{index}: {quoted(paths[0])} is not the name of a file in this folder")
    return names


def _is_file_name(text: str) -> bool:
    plain = printable(text) == text and Path(text).name == text
    return plain and len(text.encode("utf-8")) <= _LONGEST_NAME


def _json_object(path: Path) -> dict[str, Any]:
    """The object in a file; `HarnessError` if it is too large or nested, or names a key twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data = dict(pairs)
        if len(data) < len(pairs):
            most = Counter(name for name, _ in pairs).most_common(1)
            raise HarnessError(f"{path}: {quoted(most[0][0])} stands in it twice")
        return data

    def integer(text: str) -> int | float:
        return int(text) if len(text) <= _LONGEST_INTEGER else float(text)

    try:
        if (size := path.stat().st_size) > LONGEST_HEADER:
            raise HarnessError(f"{path}: has {size} bytes, and at most {LONGEST_HEADER} are read")
        text = path.read_text("utf-8-sig")
        data = json.loads(text, object_pairs_hook=once, parse_int=integer)
    except OSError as error:
        raise HarnessError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # malformed, or not UTF-8
        raise HarnessError(f"{path}: not valid JSON: {error}") from error
    except RecursionError as error:
        raise HarnessError(f"{path}: not a configuration: nested too deeply") from error
    if not isinstance(data, dict):
        raise HarnessError(f"{path}: must hold one object")
    return data


def _advice(folder: Path, missing: list[str]) -> str:
    """How to convert a pickle, if the folder has one in place of the weights."""
    pickled = sorted(path.name for kind in _PICKLED for path in folder.glob(kind))
    if WEIGHTS not in missing or not pickled:
        return ""
    theirs = CONFIG not in missing and detect_format(read_config(folder)) == "huggingface"
    lines = (_CONVERT_HUGGINGFACE if theirs else _CONVERT_STATE).format(
        folder=str(folder), file=str(folder / pickled[0]), weights=str(folder / WEIGHTS)
    )
    return (
        f"; {printable(pickled[0])} is a pickle, which can run code and is never opened here. If "
        f"you trust it, convert it once in Python:{lines}"
    )
