"""Random dictionaries and frozen runs of small models of every architecture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.dictionaries.dictionary import Dictionary, random_dictionary
from harness.models.sites import sites
from harness.models.transformer import Transformer
from harness.spec.types import ActivationSparsity
from harness.tracing.run import FrozenRun, MLPCode, frozen_run
from support.slow_reference import ARCHITECTURES, small_model

NAMES = (*ARCHITECTURES, "weight-sparse", "weight-sparse-gemma")
FEW = ("gpt2-like", "grouped", "gemma-like", "parallel", "sinks-bigrams", "weight-sparse")
"""Those that fast tests take apart; continuous integration takes apart all."""
"""Every architecture, and two with AbsTopK at every site."""

CODES = ("dictionaries", "hidden", "neurons", "modules")
LENGTH = 6
ACTIVATIONS = ("topk", "relu_l1", "batchtopk", "jumprelu")


def tokens(seed: int = 3) -> Tensor:
    return torch.randint(11, (LENGTH,), generator=torch.Generator().manual_seed(seed))


def dictionaries(model: Transformer, *kinds: str, features: int = 30) -> dict[str, Dictionary]:
    """Random dictionaries of sites of these kinds, each with another activation, biases too."""
    by_site = {}
    chosen = [site for site in sites(model.config) if site.kind in kinds]
    draw = torch.Generator().manual_seed(7)
    for at, site in enumerate(chosen):
        one = random_dictionary(
            site.width, features, ACTIVATIONS[at % 4], seed=at, k=5, pre_bias=at % 3 > 0
        )
        with torch.no_grad():
            one.encoder.mul_(0.6)
            one.encoder_bias.normal_(generator=draw)
            one.decoder_bias.normal_(generator=draw)
            if one.threshold is not None:
                one.threshold.fill_(0.2)
        by_site[site.name] = one.to(model.embedding.dtype).requires_grad_(False)
    return by_site


def model_of(name: str, dtype: torch.dtype = torch.float64) -> Transformer:
    """A small random model of one of `NAMES`."""
    base = {"weight-sparse": "sinks-bigrams", "weight-sparse-gemma": "gemma-like"}.get(name)
    if base is None:
        return small_model(name, dtype=dtype)
    return small_model(base, dtype=dtype, activation_sparsity=ActivationSparsity(keep=0.5))


def run_of(
    name: str, code: str, dtype: torch.dtype = torch.float64
) -> tuple[FrozenRun, dict[str, Dictionary]]:
    """A frozen run of a small model, taken apart in one of the ways of `CODES`."""
    model = model_of(name, dtype)
    codes: dict[str, Dictionary] = {}
    if code == "dictionaries":
        codes = dictionaries(model, "a.out", "m.out")
    elif code == "hidden":
        codes = dictionaries(model, "m.hidden", features=40)
    mlps: MLPCode = "modules" if code == "modules" else "neurons"
    return frozen_run(model, tokens(), codes, mlps), codes


def of_names(*more: str) -> list[Any]:
    """`NAMES` (and more parameters), the tests of those that are not `FEW` marked slow."""
    return [
        pytest.param(name, *more, marks=() if name in FEW else pytest.mark.slow) for name in NAMES
    ]
