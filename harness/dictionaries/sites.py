"""The sites that dictionaries are of: short names of specs, and their activations in a run."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.sites import Site, sites, tapped_run
from harness.models.transformer import Transformer

_GROUPS = {"attention": "a.out", "mlp": "m.out"}


def chosen_sites(config: TransformerConfig, names: Iterable[str]) -> list[Site]:
    """The sites that names of a spec mean, in order of computation.

    `attention` and `mlp` are what these write in every layer, `a0` and `m0` in one. Raises
    `HarnessError` for a site that the model does not have, and for one that is named twice.
    """
    every = sites(config)
    chosen: list[Site] = []
    for name in names:
        meant = [one for one in every if name in (one.name, one.name.removesuffix(".out"))]
        meant = [one for one in every if one.kind == _GROUPS.get(name)] or meant
        if not meant:
            raise HarnessError(
                f"the model has no site {name!r}; it has {config.n_layers} layers, with sites such "
                f"as {', '.join(one.name for one in every[-4:])}"
            )
        if twice := [one.name for one in meant if one in chosen]:
            raise HarnessError(f"site {twice[0]} is named twice")
        chosen += meant
    return [one for one in every if one in chosen]


def site_written(writer: str, having: Container[str]) -> str:
    """The site whose dictionary the features of a writer (`a0`, `m1`) are of: what it writes, or
    where `having` lacks that, its hidden layer.
    """
    return f"{writer}.out" if f"{writer}.out" in having else f"{writer}.hidden"


def by_site(names: Iterable[str], values: Mapping[str, int], default: int) -> dict[str, int]:
    """A number for each of some sites: its own of `values`, by any name of a spec, or `default`.

    A name of one site counts before `attention` and `mlp`. Raises `HarnessError` for a name that
    is none of these sites.
    """
    numbers = dict.fromkeys(names, default)
    for name in sorted(values, key=lambda one: one not in _GROUPS):
        group = _GROUPS.get(name)
        meant = [
            site
            for site in numbers
            if (group and (site[0], site.partition(".")[2]) == (group[0], "out"))
            or name in (site, site.removesuffix(".out"))
        ]
        if not meant:
            raise HarnessError(f"k_by_site names {name!r}, which is none of the sites")
        numbers |= dict.fromkeys(meant, values[name])
    return numbers


@torch.no_grad()
def activations(
    model: Transformer, tokens: Tensor, names: Iterable[str], lengths: Tensor | None = None
) -> dict[str, Tensor]:
    """What sites hold in one run: [B, T, width] each."""
    wanted, held = set(names), {}

    def tap(site: str, value: Tensor) -> Tensor:
        if site in wanted:
            held[site] = value
        return value

    tapped_run(model, tokens, tap, lengths)
    return held
