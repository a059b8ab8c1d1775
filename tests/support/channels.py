"""Models with few weights that are not zero, and the channels that are gated in them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from harness.circuits.gates.model import GatedModel
from harness.circuits.gates.space import GatedSpace
from harness.circuits.patchable import make_patchable
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer, random_model
from support.toy_task import CHOICES, FirstToken

PAIRS = FirstToken().pairs("train", 6, 0)
ZERO = replace(CHOICES, granularity="channel", component="channels", ablation="zero")


def gated(model: Transformer) -> GatedModel:
    """The channels of a model, under zero ablation."""
    return make_patchable(model, ZERO, [PAIRS])


def thinned(model: Transformer, share: float, seed: int = 0) -> Transformer:
    """The model with most entries of its matrices set to zero."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and name.startswith("blocks"):
                weight.mul_(torch.rand(weight.shape, generator=draw) < share)
    return model


def random_kept(space, share: float, seed: int = 0) -> Tensor:
    """A random set of elements."""
    return torch.rand(len(space), generator=torch.Generator().manual_seed(seed)) < share


def by_hand(**weights: list[tuple[int, int]]) -> tuple[Transformer, GatedSpace]:
    """Two layers of one head, width 4, all matrices zero but for the named entries."""
    config = TransformerConfig(
        n_layers=2, n_heads=1, d_model=4, d_head=4, d_mlp=4, d_vocab=6, n_ctx=4, norm="rmsnorm"
    )
    model = random_model(config, 0, dtype=torch.float64)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and name.startswith("blocks"):
                weight.zero_()
        for name, entries in weights.items():
            layer, matrix = int(name[-1]), name[:-1]
            for row, column in entries:
                getattr(model.blocks[layer], matrix).weight[row, column] = 1.0
    return model, gated(model).space


def kept_of(space: GatedSpace, *names: str) -> Tensor:
    """The elements of some names."""
    kept = torch.zeros(len(space), dtype=torch.bool)
    kept[[space.index(name) for name in names]] = True
    return kept
