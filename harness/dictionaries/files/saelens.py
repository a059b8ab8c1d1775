"""SAELens' form of one dictionary: a folder with `cfg.json` and `sae_weights.safetensors`.

Tensors are `W_enc` [D, F], `b_enc` [F], `W_dec` [F, D], `b_dec` [D] and, of jumprelu, `threshold`
[F]. Architectures standard, topk and jumprelu are read and written (SAELens saves a trained
BatchTopK as jumprelu); all others are refused by name, as is a normalisation that happens while
the model runs. What is written for an activation is the same function of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from harness.dictionaries.dictionary import Activation, Dictionary
from harness.dictionaries.files.tensors import (
    filled_dictionary,
    read_settings,
    read_tensors,
    setting,
)
from harness.disk import write
from harness.errors import HarnessError

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"

_ACTIVATIONS: Mapping[str, Activation] = {
    "standard": "relu_l1",
    "topk": "topk",
    "jumprelu": "jumprelu",
}
_ARCHITECTURES: Mapping[Activation, str] = {
    "relu_l1": "standard",
    "topk": "topk",
    "batchtopk": "jumprelu",
    "jumprelu": "jumprelu",
}
_FUNCTIONS: Mapping[Activation, tuple[str, ...]] = {
    "relu_l1": ("relu",),
    "topk": ("topk", "relu"),
    "jumprelu": ("relu", "jumprelu", "batchtopk"),
}
"""Activation functions that older versions name beside an architecture that has them anyway."""

_HOOKS = {
    "hook_attn_out": "a{}.out",
    "hook_mlp_out": "m{}.out",
    "hook_resid_mid": "a{}.stream",
    "hook_resid_post": "m{}.stream",
    "mlp.hook_post": "m{}.hidden",
    "attn.hook_z": "a{}.z",
}
_HOOK = re.compile(r"blocks\.(\d{1,4})\.(.+)")
_NAMES = {"W_enc": "encoder", "b_enc": "encoder_bias", "W_dec": "decoder", "b_dec": "decoder_bias"}
_UNIT = 1e-3


def site_of_hook(hook: str) -> str:
    """The site that a hook of TransformerLens is. Raises `HarnessError` if it is none of ours."""
    if hook == "hook_embed":
        return "embed"
    if match := _HOOK.fullmatch(hook):
        layer, name = int(match[1]), match[2]
        if name == "hook_resid_pre" and layer:
            return f"m{layer - 1}.stream"
        if name in _HOOKS:
            return _HOOKS[name].format(layer)
    hooks = ", ".join(("hook_embed", "blocks.N.hook_resid_pre", *_HOOKS))
    raise HarnessError(f"hook {hook[:80]!r} is no site here; those that are: {hooks}")


def hook_of_site(site: str) -> str:
    """The hook of TransformerLens that a site is. Raises `HarnessError` if it is none."""
    if site == "embed":
        return "hook_embed"
    digits = re.sub(r"\D", "", site)
    for hook, ours in _HOOKS.items():
        if digits and site == ours.format(digits):
            return f"blocks.{digits}.{hook}"
    raise HarnessError(f"site {site!r} is no hook that SAELens knows")


# ---------------------------------------------------------------- reading
def read_saelens(folder: Path) -> tuple[str, Dictionary]:
    """Site and dictionary of a folder. Raises `HarnessError` that names the file and the fault."""
    path = folder / CONFIG
    config = read_settings(path)
    architecture = config.get("architecture", "standard")
    if architecture not in _ACTIVATIONS:
        names = ", ".join(_ACTIVATIONS)
        raise HarnessError(f"{path}: architecture {architecture!r} is not read here; {names} are")
    activation = _ACTIVATIONS[architecture]
    _refuse_settings(config, activation, path)
    held = (config.get(name) for name in ("metadata", "meta"))
    about: Mapping[str, Any] = next((one for one in held if isinstance(one, dict)), {})
    hook = about.get("hook_name") or config.get("hook_name")
    if not isinstance(hook, str):
        raise HarnessError(f"{path}: hook_name, which says what it is a dictionary of, is missing")
    try:
        site = site_of_hook(hook)
    except HarnessError as error:
        raise HarnessError(f"{path}: {error}") from error
    where = folder / WEIGHTS
    tensors = _renamed(read_tensors(where), where)
    k = setting(config, "k", int, path) if activation == "topk" else None
    one = filled_dictionary(
        tensors,
        activation,
        k=k,
        pre_bias=config.get("apply_b_dec_to_input", True) is True,
        where=where,
    )
    _check_size(config, one, path)
    lengths = one.decoder.norm(dim=1)
    unequal = bool(((lengths - lengths[0]).abs() > _UNIT * lengths[0]).any())
    if activation == "topk" and unequal and not config.get("rescale_acts_by_decoder_norm"):
        raise HarnessError(
            f"{where}: rows of W_dec have different lengths, and the k largest are chosen without "
            "them; fold the lengths into the encoder first"
        )
    one.normalise()
    return site, one


def _refuse_settings(config: Mapping[str, Any], activation: Activation, path: Path) -> None:
    """Settings under which the weights alone do not say what the dictionary does."""
    odd = {
        "normalize_activations": ("none", None),
        "finetuning_scaling_factor": (False, None),
    }
    for name, fine in odd.items():
        if name in config and config[name] not in fine:
            raise HarnessError(
                f"{path}: {name} is {str(config[name])[:60]!r}, which is not read here; fold it "
                "into the weights first"
            )
    function = config.get("activation_fn") or config.get("activation_fn_str") or "relu"
    if function not in _FUNCTIONS[activation]:
        raise HarnessError(
            f"{path}: activation function {str(function)[:60]!r} of architecture "
            f"{_ARCHITECTURES[activation]!r} is not read here"
        )


def _renamed(tensors: Mapping[str, Tensor], where: Path) -> dict[str, Tensor]:
    read: dict[str, Tensor] = {}
    for name, value in tensors.items():
        read[_NAMES.get(name, name)] = value.T if name == "W_enc" and value.ndim == 2 else value
    if "encoder" not in read:
        raise HarnessError(f"{where}: tensor 'W_enc' is missing")
    return read


def _check_size(config: Mapping[str, Any], one: Dictionary, path: Path) -> None:
    for name, size in (("d_in", one.width), ("d_sae", one.features)):
        if config.get(name, size) != size:
            raise HarnessError(f"{path}: {name} is {config[name]}, but the weights have {size}")


# ---------------------------------------------------------------- writing
def write_saelens(site: str, one: Dictionary, folder: Path, *, model: str = "") -> None:
    """Write one dictionary into an existing folder. `model`: what SAELens calls the model."""
    config: dict[str, Any] = {
        "architecture": _ARCHITECTURES[one.activation],
        "d_in": one.width,
        "d_sae": one.features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": one.pre_bias,
        "normalize_activations": "none",
        "reshape_activations": "hook_z" if site.endswith(".z") else "none",
        "metadata": {"model_name": model or None, "hook_name": hook_of_site(site)},
    }
    tensors = {
        "W_enc": one.encoder.T,
        "b_enc": one.encoder_bias,
        "W_dec": one.decoder,
        "b_dec": one.decoder_bias,
    }
    if one.activation == "topk":
        config |= {"k": one.k, "rescale_acts_by_decoder_norm": False}
    if one.threshold is not None:
        tensors["threshold"] = one.threshold.expand(one.features)
    flat = {
        name: value.detach().cpu().to(torch.float32).contiguous() for name, value in tensors.items()
    }
    write(folder / CONFIG, f"{json.dumps(config, indent=2)}\n".encode())
    write(folder / WEIGHTS, save(flat))
