"""The hard-concrete distribution (Louizos et al. 2018): a mask in [0, 1], often exactly 0 or 1.

With u ~ U(0, 1) and a parameter a ("log alpha"):
    s = sigmoid((logit u + a)/β),   z = clip(s·(ζ - γ) + γ, 0, 1),   β = 2/3, γ = -0.1, ζ = 1.1
Between its ends z has a gradient with respect to a, at the ends none. In closed form
    P(z > 0) = sigmoid(a - β·ln(-γ/ζ))   and   P(z = 1) = sigmoid(a - β·ln((1-γ)/(ζ-1))).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
_ZERO_SHIFT = BETA * math.log(-GAMMA / ZETA)
_ONE_SHIFT = BETA * math.log((1 - GAMMA) / (ZETA - 1))
_EDGE = 1e-6
"""u keeps this distance from 0 and 1, so that its logit is finite."""


def draw(a: Tensor, generator: torch.Generator) -> Tensor:
    """One mask for each parameter, of the same shape; differentiable with respect to `a`."""
    u = torch.rand(a.shape, generator=generator, device=a.device, dtype=a.dtype)
    s = torch.sigmoid((torch.logit(u, _EDGE) + a) / BETA)
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def kept(a: Tensor) -> Tensor:
    """P(z > 0) of each parameter: the expected L0 of its mask."""
    return torch.sigmoid(a - _ZERO_SHIFT)


def whole(a: Tensor) -> Tensor:
    """P(z = 1) of each parameter."""
    return torch.sigmoid(a - _ONE_SHIFT)


def undecided(a: Tensor) -> Tensor:
    """Share [...] of masks [..., E] neither 0 nor 1 with probability 0.9: a cut changes them."""
    return ((kept(a) > 0.1) & (whole(a) < 0.9)).to(a.dtype).mean(-1)
