"""What is left of a sparse model: nonzero entries of every tensor, and neurons that do nothing."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from harness.models.transformer import Transformer


@torch.no_grad()
def nonzeros(model: Transformer, names: Iterable[str]) -> dict[str, int]:
    """The number of nonzero entries of the tensors of these names."""
    weights = dict(model.named_parameters())
    return {name: int(weights[name].count_nonzero()) for name in names}


@torch.no_grad()
def dead_neurons(model: Transformer) -> int:
    """MLP neurons of all layers that read nothing or write nothing: without any nonzero weight."""
    dead = 0
    for block in model.layers():
        if model.config.has_mlp:
            reads = _used(block.mlp_in.weight, axis=1)
            if model.config.gated:  # a neuron whose gate or whose value is constant still acts
                reads = reads.view(2, -1).any(0)
            dead += int((~(reads & _used(block.mlp_out.weight, axis=0))).sum())
    return dead


def _used(weight: Tensor, axis: int) -> Tensor:
    return (weight != 0).any(axis)
