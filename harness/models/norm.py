"""What normalises the residual stream before a reader, and what layers write in some models."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.config import TransformerConfig


class Norm(nn.Module):
    """LayerNorm, RMSNorm or the identity, over the last axis."""

    def __init__(self, config: TransformerConfig, width: int | None = None) -> None:
        super().__init__()
        self.kind, self.eps = config.norm, config.norm_eps
        width = width or config.d_model
        if self.kind != "none":
            self.weight = nn.Parameter(torch.ones(width))
        if self.kind == "layernorm" and config.bias:
            self.bias: Tensor | None = nn.Parameter(torch.zeros(width))
        else:
            self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [..., D]."""
        if self.kind == "layernorm":
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)
        if self.kind == "rmsnorm":
            return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        return x
