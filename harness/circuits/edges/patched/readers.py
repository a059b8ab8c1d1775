"""Readers with their norm folded into the weights: the q, k, v readers of a layer, or its MLP's.

A reader computes norm(x)·W + b. For a stream x whose mean over D is zero, LayerNorm is RMSNorm:
with s = 1/√(mean x² + ε) the reader gives s·(x·W̃) + b̃, where W̃ = γW minus its mean over D and
b̃ = b + βW. So a reader that sees its own residual stream costs one matrix product and one norm; no
normalised copy of the stream is written. Since LayerNorm ignores the mean of its input, streams may
be centred where they are made (`centred`), once per writer instead of once per reader. RMSNorm and
no norm are the same with less folded in.

In bfloat16 the product alone is computed in the model's precision; s and b̃ are applied in float32,
to K numbers of a token where its stream has D, and the outputs are rounded once. In float16 the
stream is normalised before the product, as the model does it: x·W̃ could be beyond its range.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from harness.models.norm import Norm
from harness.models.precision import HALF, at_least_single, single
from harness.models.transformer import Block


def centred(x: Tensor, norm: Norm) -> Tensor:
    """x [..., D] without what a LayerNorm ignores, its mean; unchanged for other norms."""
    return x - x.mean(-1, keepdim=True) if norm.kind == "layernorm" else x


def inverse_size(x: Tensor, norm: Norm) -> Tensor | float:
    """s = 1/√(mean x² + ε), what a norm multiplies centred x [..., D] by: [..., 1].

    At least in single precision: squares are soon beyond float16.
    """
    if norm.kind == "none":
        return 1.0
    if x.dtype in HALF and x.device.type == "cpu":
        return _inverse_size_of_half(x, norm.eps)
    precision = at_least_single(x.dtype)
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=precision)
    return (length.square() / x.shape[-1] + norm.eps).rsqrt()


def _inverse_size_of_half(x: Tensor, eps: float) -> Tensor:
    """The same from LayerNorm's statistics, which its CPU kernel gathers in one pass over x.

    In single precision, if its weights are. The norm of a vector is found in a copy of all of x in
    single precision, which takes longer than the product that it is for.
    """
    width = x.shape[-1]
    ones = torch.ones(width)
    _, mean, inverse_deviation = torch.native_layer_norm(x, (width,), ones, None, eps)
    return (mean.square() + inverse_deviation.square().reciprocal()).rsqrt()


class ReaderRun(NamedTuple):
    """One run at one layer: the stream [N, D] that all R readers hold, what they gave [R, N, K],
    and the gradient there [R, N, K].
    """

    stream: Tensor
    outputs: Tensor
    gradients: Tensor


@dataclass(frozen=True)
class FoldedReaders:
    """W̃ [R, D, K] and b̃ [R, 1, K] of readers that share a norm, each with its own stream."""

    weights: Tensor
    bias: Tensor | float
    norm: Norm

    @classmethod
    def attention(cls, block: Block) -> FoldedReaders:
        """The q readers of a layer, then k, then v; R = H + 2G, K = d_head."""
        return cls._fold(block.attention_norm, *block.read_weights())

    @classmethod
    def mlp(cls, block: Block) -> FoldedReaders:
        """The MLP's one reader; K = the width of its hidden layer before activation."""
        bias = block.mlp_in.bias
        weights = block.mlp_in.weight.T[None]
        folded = cls._fold(block.mlp_norm, weights, None if bias is None else bias[None, None])
        # With the strides of a batch: in half precision products copy what has others.
        return replace(folded, weights=folded.weights[0].T[None].transpose(1, 2))

    @classmethod
    def _fold(cls, norm: Norm, weights: Tensor, bias: Tensor | None) -> FoldedReaders:
        offset: Tensor | float = 0.0 if bias is None else bias
        if norm.bias is not None:
            offset = offset + (norm.bias @ weights)[:, None, :]
        if norm.kind != "none":
            weights = weights * norm.weight[:, None]
        if norm.kind == "layernorm":
            weights = weights - weights.mean(1, keepdim=True)
        return cls(weights, offset, norm)

    def take(self, readers: Tensor) -> FoldedReaders:
        """Some of the readers [r] alone; copies their weights."""
        readers = readers.to(self.weights.device)
        bias = self.bias[readers] if isinstance(self.bias, Tensor) else self.bias
        return FoldedReaders(self.weights[readers], bias, self.norm)

    def scale(self, x: Tensor) -> Tensor | float:
        """s of every centred stream in x [..., D]: [..., 1]."""
        return inverse_size(x, self.norm)

    def read(self, x: Tensor) -> Tensor:
        """Outputs [R, N, K] of all readers, each for its own centred stream x [R, N, D]."""
        scale = self.scale(x)
        if x.dtype == torch.float16:
            return torch.bmm(_times(x, scale), self.weights) + self.bias
        return self._of_products(torch.bmm(x, self.weights), scale)

    def read_shared(self, x: Tensor) -> Tensor:
        """Outputs [R, ..., K] of all readers for one centred stream x [..., D]: one product."""
        readers, width, out = self.weights.shape
        flat, weights = x.flatten(0, -2), self.weights.transpose(0, 1).reshape(width, -1)
        scale, normed = self.scale(flat), flat
        if x.dtype == torch.float16:
            scale, normed = 1.0, _times(flat, scale)
        products = (normed @ weights).view(-1, readers, out).transpose(0, 1)
        return self._of_products(products, scale).reshape(readers, *x.shape[:-1], out)

    def _of_products(self, products: Tensor, scale: Tensor | float) -> Tensor:
        """Outputs s·(x·W̃) + b̃ [R, N, K] from x·W̃, rounded once from at least single precision."""
        return (single(products) * scale + self.bias).to(products.dtype)

    def input_gradients(self, runs: Sequence[ReaderRun]) -> Tensor:
        """Gradient at each reader's stream [R, N, D], summed over runs.

        In a run all readers hold the same stream. The norm's Jacobian then needs only one scalar
        (gradient·(output - b̃)) per reader and token beside the weights, which are the same for
        all runs: they are multiplied once.
        """
        normed = [centred(run.stream, self.norm) for run in runs]
        scales = [self.scale(x) for x in normed]
        at_outputs = sum_of(run.gradients * s for run, s in zip(runs, scales, strict=True))
        at_stream = torch.bmm(at_outputs.to(self.weights.dtype), self.weights.transpose(1, 2))
        for run, x, scale in zip(runs, normed, scales, strict=True):
            self._subtract_norm(at_stream, x, scale, run.gradients, run.outputs)
        return at_stream

    def stream_gradients(self, x: Tensor, outputs: Tensor, gradients: Tensor) -> Tensor:
        """Gradient at each reader's own centred stream x [R, N, D]: the backward of `read`."""
        scale = self.scale(x)
        at_stream = torch.bmm(_times(gradients, scale), self.weights.transpose(1, 2))
        self._subtract_norm(at_stream, x, scale, gradients, outputs)
        return at_stream

    def _subtract_norm(
        self, at_stream: Tensor, x: Tensor, scale: Tensor | float, gradients: Tensor, out: Tensor
    ) -> None:
        """The part of a norm's Jacobian along its input, s²/D·(gradient·(output - b̃))·x."""
        if self.norm.kind != "none":
            products = gradients * (out - self.bias)
            along = products.sum(-1, keepdim=True, dtype=at_least_single(x.dtype)) / x.shape[-1]
            at_stream.addcmul_(x, (along * scale * scale).to(x.dtype), value=-1)


def _times(x: Tensor, scale: Tensor | float) -> Tensor:
    """x times a scale that may be more precise, rounded once."""
    return (x * scale).to(x.dtype)


def sum_of(tensors: Iterable[Tensor]) -> Tensor:
    """Sum without a copy of all."""
    return reduce(torch.add, tensors)
