"""Dictionaries of a model as one folder: `dictionaries.safetensors`, or SAELens' folders.

Our file holds the weights of `Dictionary` as `SITE/NAME`, and under one metadata key which
activation each site has. Rows have length 1 to 1e-4.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from harness.dictionaries.dictionary import Dictionary, DictionarySet
from harness.dictionaries.files.saelens import CONFIG, read_saelens
from harness.dictionaries.files.tensors import filled_dictionary, read_tensors, setting
from harness.disk import write
from harness.errors import HarnessError, NotFound
from harness.models.config import TransformerConfig
from harness.models.sites import sites
from harness.spec.yaml.strict_json import read_json

FILE = "dictionaries.safetensors"
FORMAT = "circuit-harness/dictionaries/1"
UNIT = 1e-4

Format = Literal["auto", "harness", "saelens"]


def save_dictionaries(dictionaries: DictionarySet, folder: Path) -> None:
    """Write our file into an existing folder; equal dictionaries give equal bytes."""
    tensors, described = {}, {}
    for site, one in dictionaries.items():
        described[site] = {"activation": one.activation, "k": one.k, "pre_bias": one.pre_bias}
        weights = dict(one.named_parameters())
        if one.threshold is not None:
            weights["threshold"] = torch.nn.Parameter(one.threshold, requires_grad=False)
        for name, value in weights.items():
            tensors[f"{site}/{name}"] = value.detach().cpu().contiguous()
    head = {"format": FORMAT, "sites": described, "source": dict(dictionaries.source)}
    write(folder / FILE, save(tensors, metadata={"dictionaries": json.dumps(head)}))


def load_dictionaries(folder: Path, kind: Format = "auto") -> DictionarySet:
    """Read dictionaries from a folder, frozen, in float32.

    Raises `NotFound` if there are none, `HarnessError` that names the file and the fault.
    """
    if kind == "harness" or (kind == "auto" and (folder / FILE).is_file()):
        return _ours(folder / FILE)
    configs = [folder / CONFIG] if (folder / CONFIG).is_file() else sorted(folder.rglob(CONFIG))
    if not configs:
        raise NotFound(f"{folder} holds no dictionaries: neither {FILE} nor {CONFIG} of SAELens")
    by_site: dict[str, Dictionary] = {}
    for config in configs:
        site, one = read_saelens(config.parent)
        if site in by_site:
            raise HarnessError(f"{config}: there is more than one dictionary of site {site}")
        by_site[site] = one
    return DictionarySet(by_site, {"format": "saelens"})


def fitting(dictionaries: DictionarySet, config: TransformerConfig) -> DictionarySet:
    """The dictionaries in the order of a model's sites.

    Raises `HarnessError` for one of a site that the model does not have, or of another width.
    """
    widths = {one.name: one.width for one in sites(config)}
    for site, one in dictionaries.items():
        if site not in widths:
            raise HarnessError(f"there is a dictionary of {site!r}, which the model does not have")
        if one.width != widths[site]:
            raise HarnessError(
                f"the dictionary of {site} is {one.width} wide, the model's site {widths[site]}"
            )
    ordered = {site: dictionaries[site] for site in widths if site in dictionaries}
    return DictionarySet(ordered, dictionaries.source)


def _ours(path: Path) -> DictionarySet:
    tensors = read_tensors(path)
    head = _head(path)
    described = setting(head, "sites", dict, path)
    by_site: dict[str, dict[str, Any]] = {site: {} for site in described}
    for name, value in tensors.items():
        site, _, weight = name.partition("/")
        if site not in by_site:
            raise HarnessError(f"{path}: tensor {name!r} belongs to none of its sites")
        by_site[site][weight] = value
    read = {}
    for site, weights in by_site.items():
        where = f"{path}: site {site}"
        about = setting(described, site, dict, path)
        k = about.get("k")
        if k is not None and type(k) is not int:
            raise HarnessError(f"{where}: k is {str(k)[:60]!r}, not an integer")
        read[site] = filled_dictionary(
            weights,
            setting(about, "activation", str, where),
            k=k,
            pre_bias=setting(about, "pre_bias", bool, where),
            where=where,
        )
        if bool(((read[site].decoder.norm(dim=1) - 1).abs() > UNIT).any()):
            raise HarnessError(f"{where}: the decoder's rows do not all have length 1")
    source = head.get("source")
    return DictionarySet(read, source if isinstance(source, dict) else {})


def _head(path: Path) -> Mapping[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            head = read_json((file.metadata() or {})["dictionaries"])
    except (KeyError, ValueError, SafetensorError) as error:
        raise HarnessError(f"{path}: is no file of dictionaries: {error}") from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise HarnessError(f"{path}: is not of format {FORMAT!r}")
    return head
