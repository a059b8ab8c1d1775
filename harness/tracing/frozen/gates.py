"""Activations as gates: act(z) = gate(z)·z, in closed form, so that nothing is divided by zero.

Held at the gate of a run, an activation is linear and keeps its value. Since act(0) = 0 and
gate(z) = ∫₀¹ act'(αz) dα, what a part contributes through the gate is its integrated gradient
from z = 0. Source: He et al. 2024 (arXiv 2402.12201), approximate direct contribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def _gelu(z: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(z / math.sqrt(2)))


def _gelu_tanh(z: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def _tanh(z: Tensor) -> Tensor:
    return torch.where(z == 0, 1.0, torch.tanh(z) / torch.where(z == 0, 1.0, z))


GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "gelu_quick": lambda z: torch.sigmoid(1.702 * z),
    "relu": lambda z: (z > 0).to(z.dtype),
    "silu": torch.sigmoid,
    "tanh": _tanh,
}
"""The gate of every activation of `harness.models.transformer.ACTIVATIONS`."""


def capped_share(x: Tensor, cap: float | None) -> Tensor:
    """What a soft cap c·tanh(x / c) multiplies x by; ones without a cap."""
    return torch.ones_like(x) if cap is None else _tanh(x / cap)
