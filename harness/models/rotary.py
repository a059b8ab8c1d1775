"""Rotary position embeddings: pairs of coordinates of queries and keys, rotated by position.

Coordinates i and i + n/2 of the first n of a head are a pair (the order of Hugging Face's
checkpoints). Frequencies and angles are computed in float64, so that they are the same in every
precision up to one rounding.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from harness.models.config import Rotary


def frequencies(rotary: Rotary, n: int) -> Tensor:
    """Angle per token of each of the n/2 pairs, in radians: [n/2], float64.

    `llama3` interpolates by a pair's number of rotations within the original context (Llama 3.1),
    `yarn` by its index between the pairs that rotate `fast` and `slow` times (Peng et al. 2023).
    """
    plain = rotary.base ** -(torch.arange(0, n, 2, dtype=torch.float64) / n)
    if rotary.scaling == "none":
        return plain
    unscaled = torch.zeros_like(plain)  # 1: as it was, 0: `factor` times slower
    if rotary.scaling == "llama3":
        rotations = rotary.context * plain / (2 * math.pi)
        unscaled = ((rotations - rotary.slow) / (rotary.fast - rotary.slow)).clamp(0, 1)
    elif rotary.scaling == "yarn":
        first, last = _ramp(rotary, n)
        index = torch.arange(n // 2, dtype=torch.float64)
        unscaled = 1 - ((index - first) / (last - first)).clamp(0, 1)
    return plain * (unscaled + (1 - unscaled) / rotary.factor)


def _ramp(rotary: Rotary, n: int) -> tuple[float, float]:
    """Indices of the pairs that rotate `fast` and `slow` times within the original context."""

    def index(rotations: float) -> float:
        period = rotary.context / (2 * math.pi * rotations)
        return n * math.log(period) / (2 * math.log(rotary.base))

    first, last = index(rotary.fast), index(rotary.slow)
    if rotary.whole:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, n - 1)
    return first, last if last != first else last + 1e-3


@lru_cache(maxsize=64)
def _cos_sin(
    rotary: Rotary, n: int, length: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cosines and sines [T, n/2], shared by all layers and all runs over prompts of a length."""
    position = torch.arange(length, dtype=torch.float64)
    angles = torch.outer(position, frequencies(rotary, n))
    cos, sin = angles.cos() * rotary.amplitude, angles.sin() * rotary.amplitude
    return cos.to(device, dtype), sin.to(device, dtype)


def apply_rotary(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate x [..., T, K] by the positions 0 … T-1 of its axis T."""
    n = rotary.n_rotated or x.shape[-1]
    cos, sin = _cos_sin(rotary, n, x.shape[-2], x.dtype, x.device)
    first, second, rest = x.split([n // 2, n // 2, x.shape[-1] - n], -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1)
