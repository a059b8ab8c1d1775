"""Writers mixed into readers' streams under masks, and the way back.

Masks are shared by all tokens, m[w, r], or each position has its own, m[t, w, r]. Shared, the
tokens are the width of one matrix product; of their own, every token is a product of a batch, on
views of the same buffer of writers.

A writer's gradient is a mix of its readers' by the mask's transpose.

Shapes: masks [S, w, r] or [S, T, w, r] (or [S, B, T, w, r], where prompts are read at different
positions), writers [S, w, B, T, D], streams [S, r, B, T, D].
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.models.precision import HALF


def mix(base: Tensor, masks: Tensor, writers: Tensor) -> Tensor:
    """What readers see: base [B, T, D] + Σ_w m[w, r]·writer_w: [S, r, B, T, D]."""
    if masks.ndim == 3:
        mixed = torch.baddbmm(base.reshape(1, 1, -1), masks.transpose(1, 2), writers.flatten(2))
        return mixed.view(*mixed.shape[:2], *base.shape)
    start = base.flatten(0, 1)[:, None]
    streams = [
        torch.baddbmm(start, _of_tokens(mask, len(base)).transpose(1, 2), _by_token(written))
        for mask, written in zip(masks, writers, strict=True)
    ]
    return torch.stack(streams).transpose(1, 2).reshape(len(masks), -1, *base.shape)


def add_mixed(streams: Tensor, masks: Tensor, writers: Tensor) -> None:
    """Add Σ_w m[w, r]·writer_w to contiguous `streams` [S, r, B, T, D], in place."""
    if masks.ndim == 3:
        streams.flatten(2).baddbmm_(masks.transpose(1, 2), writers.flatten(2))
    else:
        add_writer_gradients(streams, masks.transpose(-1, -2), writers)


def mask_gradients(writers: Tensor, at_streams: Tensor, of_positions: bool) -> Tensor:
    """Gradient of the masks, Σ writer_w · at_r over D and tokens: [S, w, r].

    `of_positions`: over D and prompts alone, [S, T, w, r].
    """
    if not of_positions:
        return torch.bmm(writers.flatten(2), at_streams.flatten(2).transpose(1, 2))
    prompts = writers.shape[2]
    gradients = [
        torch.bmm(_by_token(written), _by_token(at).transpose(1, 2)).unflatten(0, (prompts, -1))
        for written, at in zip(writers, at_streams, strict=True)
    ]
    return torch.stack([each.sum(0) for each in gradients])


def add_writer_gradients(into: Tensor, masks: Tensor, at_streams: Tensor) -> None:
    """Add the gradient of the writers, Σ_r m[w, r]·at_r, to `into` [S, w, B, T, D], in place."""
    for slots, mask, at in zip(into, masks, at_streams, strict=True):
        if masks.ndim == 3:
            # In half precision a product with one row takes twice as long as its definition.
            one = mask.dtype in HALF and mask.shape[1] == 1
            add = torch.Tensor.addcmul_ if one else torch.Tensor.addmm_
            add(slots.view(len(slots), -1), mask, at.flatten(1))
        else:
            tokens = slots.view(len(slots), -1, slots.shape[-1]).transpose(0, 1)  # never a copy
            tokens.baddbmm_(_of_tokens(mask, slots.shape[1]), _by_token(at))


def _by_token(x: Tensor) -> Tensor:
    """[n, B, T, D] as [B·T, n, D]: a view where x is contiguous."""
    return x.flatten(1, 2).transpose(0, 1)


def _of_tokens(mask: Tensor, prompts: int) -> Tensor:
    """The mask [B·T, w, r] of every token, from [T, w, r] or [B, T, w, r]."""
    if mask.ndim == 3:
        mask = mask.expand(prompts, *mask.shape)
    return mask.flatten(0, 1)
