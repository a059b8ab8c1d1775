"""A bridge: linear maps between the streams of a dense and a sparse model (Gao et al. 2025).

Both models have L layers. A point is a place of the stream: 2l before the attention of layer l,
2l+1 before its MLP, 2L at the end; there is one encoder, dense to sparse and then AbsTopK, and one
decoder, sparse to dense, at each of the 2L+1. D, E: widths of the dense and the sparse stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from harness.errors import HarnessError
from harness.models.abs_topk import abs_topk
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer

KEEP = 0.25
"""Share of an encoder's outputs that AbsTopK keeps. The paper does not give it."""


class Bridge(nn.Module):
    """Encoders [..., D] → [..., E] and decoders [..., E] → [..., D] at every point.

    Raises `HarnessError` for two models that have not the same points or outputs.
    """

    def __init__(self, dense: TransformerConfig, sparse: TransformerConfig) -> None:
        super().__init__()
        _refuse(dense, sparse)
        points, self.kept = points_of(dense), max(1, int(KEEP * sparse.d_model))
        D, E = dense.d_model, sparse.d_model
        self.encoders = nn.ModuleList(nn.Linear(D, E) for _ in range(points))
        self.decoders = nn.ModuleList(nn.Linear(E, D) for _ in range(points))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw weights: normal with 1/√fan-in; biases are zero."""
        for weight in self.parameters():
            weight.zero_()
            if weight.ndim == 2:
                weight.normal_(0, 1 / math.sqrt(weight.shape[1]), generator=generator)

    def encode(self, point: int, x: Tensor) -> Tensor:
        """The dense stream [..., D] at a point as the sparse model's [..., E]."""
        return abs_topk(self.encoders[point](x), self.kept)

    def decode(self, point: int, x: Tensor) -> Tensor:
        """The sparse stream [..., E] at a point as the dense model's [..., D]."""
        decoded: Tensor = self.decoders[point](x)
        return decoded

    def column(self, point: int, channel: int) -> Tensor:
        """Where a channel of the sparse stream is decoded to: [D]."""
        decoder = self.decoders[point]
        assert isinstance(decoder, nn.Linear)
        return decoder.weight[:, channel]


def points_of(config: TransformerConfig) -> int:
    """How many points a model's stream has."""
    return 2 * config.n_layers + 1


def streams(model: Transformer, tokens: Tensor) -> list[Tensor]:
    """The stream at every point: 2L+1 of [B, T, D]."""
    x = model.start(tokens)
    return [x, *(after for after, _ in _parts(model, x, 0))]


def logits_from(model: Transformer, x: Tensor, point: int, tokens: Tensor) -> Tensor:
    """Logits [B, T, V] of the model run on from the stream x [B, T, D] at a point."""
    for after, _ in _parts(model, x, point):
        x = after
    return model.unembed(x, tokens)


def _parts(model: Transformer, x: Tensor, point: int) -> Iterator[tuple[Tensor, int]]:
    """The stream after every attention and MLP from a point on, and the point it is at."""
    for block in model.layers():
        attention = 2 * block.layer
        if attention >= point:
            x = x + block.add_attention(block.project(block.heads(x)))
            yield x, attention + 1
        if attention + 1 >= point:
            x = x + block.mlp(x)
            yield x, attention + 2


def _refuse(dense: TransformerConfig, sparse: TransformerConfig) -> None:
    for name in ("n_layers", "d_vocab", "n_outputs"):
        if (one := getattr(dense, name)) != (other := getattr(sparse, name)):
            raise HarnessError(
                f"a bridge needs models of equal {name}; the dense one has {one}, the sparse one "
                f"{other}"
            )
    for config in (dense, sparse):
        if config.parallel or not config.has_mlp or not config.causal:
            raise HarnessError(
                "a bridge needs causal models with an MLP after each attention: layers of "
                "attention alone, parallel and bidirectional ones have not its points"
            )
