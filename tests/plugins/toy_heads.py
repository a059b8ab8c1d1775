"""A granularity from outside: whole attention heads and MLPs, each multiplied by its mask.

All that a package has to bring. It imports from `harness` alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness import Batch, GranularityInfo, NamedElements, Transformer

INFO = GranularityInfo(
    name="head",
    unit="heads and MLPs",
    components=("outputs",),
    ablations=("zero",),
    positions=("all",),
    space="toy_heads:space",
    patchable="toy_heads:patchable",
)


def space(header: dict) -> NamedElements:
    return NamedElements(INFO.name, header["unit"], tuple(header["names"]))


def patchable(model: Transformer, choices: object, pairs: object) -> HeadModel:
    return HeadModel(model)


@dataclass(frozen=True)
class Nothing:
    """What replaces a dropped head: nothing, for any prompts."""

    def take(self, rows: Tensor) -> Nothing:
        return self


@dataclass(frozen=True)
class Nothings:
    ablation: str = "zero"
    notes: dict = field(default_factory=dict)

    def of(self, batch: Batch) -> Nothing:
        return Nothing()


class HeadModel:
    def __init__(self, model: Transformer) -> None:
        self.model, config = model, model.config
        names = []
        for layer in range(config.n_layers):
            names += [f"a{layer}.h{head}" for head in range(config.n_heads)]
            names.append(f"m{layer}")
        self.space = NamedElements(INFO.name, INFO.unit, tuple(names))

    def counterfactuals(self, choices: object, pairs: object, seed: int) -> Nothings:
        return Nothings()

    def masked_logits(self, batch, masks, counterfactual, *, exact_zeros=False) -> Tensor:
        return torch.stack([self._logits(batch, mask) for mask in masks])

    @torch.no_grad()
    def logits(self, batch: Batch, masks: Tensor, counterfactual: object) -> Tensor:
        return self.masked_logits(batch, masks, counterfactual)

    def _logits(self, batch: Batch, mask: Tensor) -> Tensor:
        x, heads = self.model.start(batch.clean), self.model.config.n_heads
        masks = mask.to(x).view(-1, heads + 1)
        for block, of_layer in zip(self.model.layers(), masks, strict=True):
            z = block.heads(x) * of_layer[:heads, None]
            after = x + block.add_attention(block.project(z))
            seen = x if self.model.config.parallel else after
            x = after + of_layer[heads] * block.mlp(seen)
        return self.model.unembed(batch.at_positions(x), batch.read_tokens())

    def numbers(self, tokens: int) -> int:
        return 4 * tokens * self.model.config.d_model

    def counterfactual_numbers(self, tokens: int) -> int:
        return 0
