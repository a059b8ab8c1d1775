"""Attention of one head, or of many at once, from its queries, keys and values."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.models.sinks import causal_in_half, causal_with_sink, with_scores


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    padding: Tensor | None = None,
    sink: Tensor | None = None,
) -> Tensor:
    """softmax(scale · q·k over the keys that a query sees) · v, all [..., T, K].

    `window`: the number of tokens that a query sees, itself the last. `scale`: 1/√K if None.
    `softcap` c: scores become c·tanh(score / c). `padding` (only without a causal mask): True
    where a key may be seen, broadcast to [..., T, T]. `sink`: logits that stand in the denominator
    of the softmax alone, broadcast to [...].
    """
    length = q.shape[-2]
    windowed = window is not None and window < length
    if sink is not None and causal and softcap is None and not windowed:
        return causal_with_sink(q, k, v, sink, scale)
    if sink is None and softcap is None and not windowed:
        # Right padding lies in the future of every real token: a causal model needs no mask.
        mask = None if causal else padding
        if causal and (out := causal_in_half(q, k, v, scale)) is not None:
            return out
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale)
    seen = _seen(length, window if windowed else None, q.device) if causal else padding
    if sink is None and softcap is None:
        return F.scaled_dot_product_attention(q, k, v, seen, scale=scale)
    scores = q @ k.transpose(-1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    return with_scores(scores, v, sink)


@lru_cache(maxsize=16)
def _seen(length: int, window: int | None, device: torch.device) -> Tensor:
    """Which keys each query sees under a causal mask: bool [T, T]."""
    seen = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return seen if window is None else seen.triu(1 - window)
