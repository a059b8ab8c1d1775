"""The blocks run with autograd's tape, and the gradient of a number at every reader.

A reader's input is a branch of the residual stream: its gradient is what the reader alone passes
down, not what the stream carries past it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from harness.models.transformer import Transformer


class TraceGradients(NamedTuple):
    """Gradients at a trace's start, at the readers of its layers, and at the final reader."""

    start: Tensor
    reads: tuple[Tensor, ...]
    mlps: tuple[Tensor, ...]
    final: Tensor


@dataclass(frozen=True)
class Trace:
    """The blocks run from a point of the stream on.

    Points: 2l before the attention of layer l, 2l+1 before its MLP, 2L at the end. `start`, `end`:
    streams [B, T, D]. By layer, for the layers whose attention was run: the stream before it
    (`streams`) and after it (`after`) [B, T, D], what its readers gave, `reads` [B, T, R, K], its
    heads, `heads` [B, T, H, K], and their sum before any post-norm, `attention` [B, T, D]. For
    those whose MLP was run: its branch of the stream, `mlps`, and what it wrote, `written`.
    Backward passes may start at `streams`, `after`, `written` and `end`.
    """

    start: Tensor
    end: Tensor
    streams: tuple[Tensor, ...]
    after: tuple[Tensor, ...]
    reads: tuple[Tensor, ...]
    heads: tuple[Tensor, ...]
    attention: tuple[Tensor, ...]
    mlps: tuple[Tensor, ...]
    written: tuple[Tensor, ...]

    @classmethod
    @torch.enable_grad()
    def of(cls, model: Transformer, start: Tensor, point: int = 0) -> Trace:
        """Run on from the stream `start` [B, T, D] at a point."""
        x = start = start.detach().requires_grad_()
        streams, afters, outputs, heads, attention = [], [], [], [], []
        mlps, written = [], []
        for layer, block in enumerate(model.layers()):
            if point >= 2 * layer + 2:
                continue
            after = x = block.enters(x)
            if point <= 2 * layer:
                streams.append(block.leaves(x))
                outputs.append(block.read(x))
                q, k, v = block.split(outputs[-1].transpose(1, 2), axis=1)
                heads.append(block.attend(q, k, v, axis=1).transpose(1, 2))
                attention.append(block.project(heads[-1]))
                after = x + block.add_attention(attention[-1])
                afters.append(block.leaves(after))
            seen = x if model.config.parallel else after
            mlps.append(seen.view_as(seen))  # a branch: its gradient is the reader's alone
            out = block.mlp(mlps[-1])
            written.append(block.leaves(out))
            x = block.leaves(after + out)
        layers = (streams, afters, outputs, heads, attention, mlps, written)
        return cls(start, x, *map(tuple, layers))

    def gradients(self, total: Tensor, final: Tensor) -> TraceGradients:
        """Gradients of a number; `final` are the read positions of the end [B, P, D].

        Weights get none: it costs as much as the forward. The tape is used up.
        """
        at = [self.start, *self.reads, *self.mlps, final]
        gradients = torch.autograd.grad(total, at, materialize_grads=True)
        mlps = 1 + len(self.reads)
        return TraceGradients(gradients[0], gradients[1:mlps], gradients[mlps:-1], gradients[-1])
