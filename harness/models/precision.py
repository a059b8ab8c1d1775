"""What stays in single precision when a model runs in half precision.

A model in bfloat16 (8 significant bits) or float16 (11, and nothing beyond 65504) rounds its
weights and activations. What is summed over many of them or updated in small steps stays in
float32: measures, losses, scores, norms of streams, and learned masks. Gradients have the
model's own precision: in float16 those below 6e-8 vanish, bfloat16 has the range of float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

HALF = frozenset({torch.bfloat16, torch.float16})


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """float32 for the half precisions, the precision itself for others."""
    return torch.float32 if dtype in HALF else dtype


def single(x: Tensor) -> Tensor:
    """x in `at_least_single` precision; x itself where it is already."""
    return x.to(at_least_single(x.dtype))
