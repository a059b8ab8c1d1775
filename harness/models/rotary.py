"""Rotary positions: pairs of coordinates of queries and keys are turned by their position.

Coordinates i and i + n/2 of the first n of a head are a pair (the order of Hugging Face's
checkpoints). Frequencies and angles are computed in float64, so that a model in any precision
turns by the same angles up to one rounding.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from harness.models.config import Rotary


def frequencies(rotary: Rotary, n: int) -> Tensor:
    """Angle per token of each of the n/2 pairs, in radians: [n/2], float64.

    `llama3` mixes by how often a pair turns within the original context (Llama 3.1), `yarn` by
    the pair's index between those that turn `fast` and `slow` times (Peng et al. 2023).
    """
    plain = rotary.base ** -(torch.arange(0, n, 2, dtype=torch.float64) / n)
    if rotary.scaling == "none":
        return plain
    kept = torch.zeros_like(plain)  # 1: as it was, 0: `factor` times slower
    if rotary.scaling == "llama3":
        turns = rotary.context * plain / (2 * math.pi)
        kept = ((turns - rotary.slow) / (rotary.fast - rotary.slow)).clamp(0, 1)
    elif rotary.scaling == "yarn":
        first, last = _ramp(rotary, n)
        index = torch.arange(n // 2, dtype=torch.float64)
        kept = 1 - ((index - first) / (last - first)).clamp(0, 1)
    return plain * (kept + (1 - kept) / rotary.factor)


def _ramp(rotary: Rotary, n: int) -> tuple[float, float]:
    """Indices of the pairs that turn `fast` and `slow` times within the original context."""

    def index(turns: float) -> float:
        period = rotary.context / (2 * math.pi * turns)
        return n * math.log(period) / (2 * math.log(rotary.base))

    first, last = index(rotary.fast), index(rotary.slow)
    if rotary.whole:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, n - 1)
    return first, last if last != first else last + 1e-3


@lru_cache(maxsize=64)
def _turns(
    rotary: Rotary, n: int, length: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [T, n/2]; all layers, and all runs over prompts of a length, share them."""
    position = torch.arange(length, dtype=torch.float64)
    angles = torch.outer(position, frequencies(rotary, n))
    cos, sin = angles.cos() * rotary.amplitude, angles.sin() * rotary.amplitude
    return cos.to(device, dtype), sin.to(device, dtype)


def turn(x: Tensor, rotary: Rotary) -> Tensor:
    """Turn x [..., T, K] by the positions 0 … T-1 of its axis T."""
    n = rotary.n_rotated or x.shape[-1]
    cos, sin = _turns(rotary, n, x.shape[-2], x.dtype, x.device)
    one, other, rest = x.split([n // 2, n // 2, x.shape[-1] - n], -1)
    return torch.cat([one * cos - other * sin, other * cos + one * sin, rest], -1)
