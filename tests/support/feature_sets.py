"""A small model's random dictionaries, and the choices of circuits of their features."""

from __future__ import annotations

from dataclasses import replace

import torch

from harness.dictionaries.dictionary import Dictionary, DictionarySet, random_dictionary
from harness.models.config import TransformerConfig
from harness.spec.types import Evaluation
from support.toy_task import CHOICES

CONFIG = TransformerConfig(n_layers=2, n_heads=2, d_model=8, d_head=4, d_mlp=12, d_vocab=6, n_ctx=4)
FEATURES = 10
SITES = ("a0.out", "m0.out", "a1.out", "m1.out")


def choices(ablation: str = "interchange", component: str = "features") -> Evaluation:
    return replace(CHOICES, granularity="feature", component=component, ablation=ablation)


def dictionaries(dtype: torch.dtype = torch.float64) -> DictionarySet:
    made = {}
    for index, site in enumerate(SITES):
        one = random_dictionary(8, FEATURES, "batchtopk", seed=index)
        assert one.threshold is not None
        one.threshold.fill_(0.2)
        with torch.no_grad():
            one.decoder_bias.add_(0.1 * index)
            one.encoder_bias.add_(0.05)
        made[site] = one
    return DictionarySet(made).to(dtype=dtype).frozen()


def exact(width: int) -> Dictionary:
    """Every direction and its opposite, as large as it is: decodes whatever there is."""
    one = Dictionary(width, 2 * width, "relu_l1")
    with torch.no_grad():
        one.decoder.copy_(torch.cat([torch.eye(width), -torch.eye(width)]))
        one.encoder.copy_(one.decoder)
    return one
