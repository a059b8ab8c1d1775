"""A dictionary from the tensors and settings of a file, checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from harness.dictionaries.dictionary import Activation, Dictionary
from harness.disk import naming
from harness.errors import HarnessError, NotFound
from harness.spec.yaml.strict_json import read_json

_FLOATS = {torch.float64, torch.float32, torch.float16, torch.bfloat16}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file. Raises `HarnessError` naming it if it is none."""
    if not path.is_file():
        raise NotFound(f"no file {path}")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise HarnessError(f"{path}: cannot be read as safetensors: {error}") from error
    return tensors


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises `HarnessError` naming it if there is none."""
    if not path.is_file():
        raise NotFound(f"no file {path}")
    try:
        with naming(path):
            data = read_json(path.read_bytes())
    except ValueError as error:
        raise HarnessError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise HarnessError(f"{path}: holds no JSON object")
    return data


def setting(data: Mapping[str, Any], name: str, kind: type, where: object) -> Any:
    """A setting of a type. Raises `HarnessError` if it is missing or another type."""
    value = data.get(name)
    if type(value) is not kind:
        wanted = {int: "an integer", bool: "true or false", str: "a text", dict: "a mapping"}
        raise HarnessError(f"{where}: {name} is {str(value)[:60]!r}, not {wanted[kind]}")
    return value


@torch.no_grad()
def filled_dictionary(
    tensors: Mapping[str, Tensor],
    activation: Activation,
    *,
    k: int | None,
    pre_bias: bool,
    where: object,
) -> Dictionary:
    """A dictionary with these weights, under the names of `Dictionary`, in float32.

    Raises `HarnessError` for missing, unknown and misshapen tensors, numbers that are not finite,
    and negative thresholds.
    """
    rows = tensors.get("decoder")
    if rows is None or rows.ndim != 2 or 0 in rows.shape:
        raise HarnessError(f"{where}: the decoder is no matrix [features, width]")
    one = Dictionary(rows.shape[1], rows.shape[0], activation, k=k, pre_bias=pre_bias)
    wanted: dict[str, Tensor] = dict(one.named_parameters())
    if one.threshold is not None:
        wanted["threshold"] = one.threshold
    if odd := sorted(tensors.keys() ^ wanted.keys()):
        has = "unknown" if odd[0] in tensors else "missing"
        raise HarnessError(f"{where}: tensor {odd[0]!r} of a {activation} dictionary is {has}")
    for name, value in tensors.items():
        ours = wanted[name]
        if value.shape != ours.shape or value.dtype not in _FLOATS:
            raise HarnessError(
                f"{where}: {name} is {value.dtype} {tuple(value.shape)}, not floats of shape "
                f"{tuple(ours.shape)}"
            )
        if not bool(torch.isfinite(value).all()):
            raise HarnessError(f"{where}: {name} has numbers that are not finite")
        ours.copy_(value)
    if one.threshold is not None and bool((one.threshold < 0).any()):
        raise HarnessError(f"{where}: a threshold is negative, so a code could be negative")
    return one.requires_grad_(False)
