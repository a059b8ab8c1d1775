"""Causal attention with sinks, at the speed of the fused kernels.

A sink is one more key that every query sees, with a score b of its own and a value of zero. The
fused kernels know no sinks, but the CPU's returns L = log Σ exp(score), from which follow
    L' = log(exp L + exp b),   out' = out·exp(L - L')
Its backward computes probabilities anew as exp(score - L): given out' and L' it is the backward
with the sink, exactly. The sink's own gradient is -Σ exp(b - L')·(gradient·out').

The kernel is a private operator of torch: it is compared once with attention written out
(`with_scores`), and where it is missing or wrong, and on other devices, the public kernel runs on
keys and queries with a dimension more, in which the sink is the first key. That is exact too, and
takes 1.3 to 1.5 times as long as attention without sinks (1.04 to 1.1 with the kernel).

In half precision the kernel's backward takes four to eight times as long as in float32 where
prompts are short, and rounds more often. It runs in float32 there, with sinks and without
(`causal_in_half`), and its gradients are rounded once.
"""

from __future__ import annotations

import logging
import math
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.models.precision import HALF, single

_KERNEL = "_scaled_dot_product_flash_attention_for_cpu"
_WIDTHS = 8  # kernels for GPUs want head widths that this divides
_ROUNDINGS = 64
_SHORT = 256
"""Tokens up to which the backward of half precision is faster in float32: 2.6 times at 80, 5 at
128, but 0.8 times at 512 (heads of 64 numbers; one thread of a CPU with AMX)."""

_LOG = logging.getLogger("harness")


def causal_with_sink(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, scale: float | None) -> Tensor:
    """Causal attention of q, k, v [a, b, T, K] with sinks' logits that broadcast to [a, b]."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if q.device.type == "cpu" and _kernel_is_right(q.dtype):
        return _by_kernel(q, k, v, sink, scale)
    return by_first_key(q, k, v, sink, scale)


def causal_in_half(q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor | None:
    """Causal attention of q, k, v [a, b, T, K] in half precision whose backward is in float32.

    None where it is not for: other devices and precisions, long prompts, no gradients.
    """
    wanted = q.dtype in HALF and q.device.type == "cpu" and q.ndim == 4 and q.shape[-2] <= _SHORT
    learned = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if not (wanted and learned and _kernel_is_right(q.dtype)):
        return None
    return _by_kernel(q, k, v, None, 1 / math.sqrt(q.shape[-1]) if scale is None else scale)


def with_scores(scores: Tensor, v: Tensor, sink: Tensor | None) -> Tensor:
    """Attention [..., T, K] from its scores [..., T, T], -inf where a key is not seen."""
    if sink is None:
        return scores.softmax(-1) @ v
    beside = sink[..., None, None].to(scores.dtype).expand(*scores.shape[:-1], 1)
    return torch.cat([scores, beside], -1).softmax(-1)[..., :-1] @ v


def by_first_key(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, scale: float) -> Tensor:
    """The same by public functions: T+1 queries and keys of more dimensions.

    The first query is unused; the first key is the sink, whose score is the product of the
    dimension that is 1 in every query and b/scale in this key.
    """
    width = q.shape[-1]
    more = _WIDTHS - width % _WIDTHS
    q = torch.cat([q, q.new_ones(*q.shape[:-1], 1)], -1)
    q = F.pad(q, (0, more - 1, 1, 0))
    key = F.pad((sink / scale)[..., None].to(k.dtype), (width, more - 1))
    key = key.expand(*k.shape[:-2], -1)[..., None, :]
    k = torch.cat([key, F.pad(k, (0, more))], -2)
    v = F.pad(v, (0, more, 1, 0))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    return out[..., 1:, :width]


class _Kernel(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, sink: Tensor | None, scale: float
    ) -> Tensor:
        run = getattr(torch.ops.aten, _KERNEL)
        out, total = cast(tuple[Tensor, Tensor], run(q, k, v, 0.0, True, scale=scale))
        if sink is not None:
            with_sink = torch.logaddexp(total, sink[..., None].to(total.dtype))
            out = (out * (total - with_sink).exp()[..., None]).to(q.dtype)
            total = with_sink
        ctx.save_for_backward(q, k, v, sink, out, total)
        ctx.scale = scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, at_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, sink, out, total = ctx.saved_tensors
        backward = getattr(torch.ops.aten, f"{_KERNEL}_backward")
        with_out = [at_out, q, k, v, out]
        if q.shape[-2] <= _SHORT:
            with_out = [single(x) for x in with_out]
        reads = backward(*with_out, total, 0.0, True, scale=ctx.scale)
        at_sink = None
        if ctx.needs_input_grad[3]:
            shares = (sink[..., None].to(total.dtype) - total).exp()
            along = (at_out * out).sum(-1, dtype=total.dtype)
            at_sink = -(shares * along).sum(-1).sum_to_size(sink.shape).to(sink.dtype)
        return (*(x.to(q.dtype) for x in reads), at_sink, None)


def _by_kernel(q: Tensor, k: Tensor, v: Tensor, sink: Tensor | None, scale: float) -> Tensor:
    out: Tensor = _Kernel.apply(q, k, v, sink, scale)  # type: ignore[no-untyped-call]
    return out


@lru_cache
def _kernel_is_right(dtype: torch.dtype) -> bool:
    """Whether the kernel exists for this precision, and gives values and gradients as defined."""
    try:
        wrong = _kernel_error(dtype) > _ROUNDINGS * torch.finfo(dtype).eps
    except (AttributeError, RuntimeError, TypeError) as error:
        _LOG.info("attention with sinks runs without torch's CPU kernel: %s", error)
        return False
    if wrong:
        _LOG.warning("torch's CPU kernel is not what attention with sinks takes it for; unused")
    return not wrong


@torch.enable_grad()
def _kernel_error(dtype: torch.dtype) -> float:
    """Largest relative difference of values and gradients on one small example."""
    draw = torch.Generator().manual_seed(0)
    *reads, weight = (torch.randn(1, 2, 5, 8, generator=draw).to(dtype) for _ in range(4))
    logits = torch.tensor([0.5, -1.0], dtype=dtype)
    ends = []
    for run in (_by_kernel, _written_out):
        q, k, v, sink = leaves = [x.clone().requires_grad_() for x in (*reads, logits)]
        out = run(q, k, v, sink, 0.3)
        ends.append([out.detach(), *torch.autograd.grad((out * weight).sum(), leaves)])
    return max(
        float((one - other).abs().max() / other.abs().max())
        for one, other in zip(*ends, strict=True)
    )


def _written_out(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, scale: float) -> Tensor:
    unseen = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1)
    return with_scores((q @ k.transpose(-1, -2) * scale).masked_fill(unseen, -torch.inf), v, sink)
