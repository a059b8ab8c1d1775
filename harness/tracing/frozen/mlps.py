"""An MLP with its gates held at those of one run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.models.transformer import Block
from harness.tracing.frozen.gates import GATES
from harness.tracing.frozen.norms import ALL, FrozenNorm, Rows


@dataclass(frozen=True)
class FrozenMLP:
    """hidden = Σ gates · (weight · norm(x) + bias), out = post(out_weight · hidden + out_bias).

    `gates`: [T, M], or [T, 2, M] for a gated MLP act(g)·u, whose product is split in two halves:
    through g with u held, and through u with act(g) held. Both keep the product's value, and each
    path is seen. `hidden` [T, M] is the hidden layer's value, `post` what follows the output map.
    """

    norm: FrozenNorm
    weight: Tensor  # [M or 2M, D]
    bias: Tensor | None
    gates: Tensor
    hidden: Tensor
    out_weight: Tensor  # [D, M]
    out_bias: Tensor | None
    post: FrozenNorm | None

    @classmethod
    def of(
        cls,
        block: Block,
        norm: FrozenNorm,
        read: Tensor,
        hidden: Tensor,
        mask: Tensor | None,
        post: FrozenNorm | None,
    ) -> FrozenMLP:
        """Of a block that read `read` [T, D]; `mask` [T, M]: what of the hidden layer is kept."""
        before = block.mlp_in(read)
        gate = GATES[block.config.activation]
        if block.config.gated:
            inner, up = before.chunk(2, -1)
            gates = torch.stack([gate(inner) * up, block.activation(inner)], -2) / 2
        else:
            gates = gate(before)
        if mask is not None:
            gates = gates * (mask[:, None] if gates.ndim == 3 else mask)
        maps = block.mlp_in, block.mlp_out
        return cls(
            norm,
            maps[0].weight,
            maps[0].bias,
            gates,
            hidden,
            maps[1].weight,
            maps[1].bias,
            post,
        )

    # ------------------------------------------------------------ backward
    def to_hidden(self, direction: Tensor, rows: Rows = ALL) -> tuple[Tensor, Tensor]:
        """A direction of the output [..., rows, D] as one of the hidden layer, and the constant."""
        direction, constant = through(self.post, direction, rows)
        if self.out_bias is not None:
            constant = constant + direction @ self.out_bias
        return direction @ self.out_weight, constant

    def from_hidden(self, direction: Tensor, rows: Rows = ALL) -> tuple[Tensor, Tensor]:
        """A direction of the hidden layer [..., rows, M] as one of the stream, and the constant."""
        gates = self.gates[rows]
        if gates.ndim == 3:
            before = (direction[..., None, :] * gates).flatten(-2)
        else:
            before = direction * gates
        read = before @ self.weight
        constant = self.norm.constant(read, rows)
        if self.bias is not None:
            constant = constant + before @ self.bias
        return self.norm.adjoint(read, rows), constant

    # ------------------------------------------------------------ forward
    def rebuilt_hidden(self, read: Tensor) -> Tensor:
        """The hidden layer [T, M] of what was read, `read` [T, D], through the gates."""
        before = read @ self.weight.T
        if self.bias is not None:
            before = before + self.bias
        if self.gates.ndim == 2:
            return before * self.gates
        hidden: Tensor = (before.unflatten(-1, (2, -1)) * self.gates).sum(-2)
        return hidden

    def to_output(self, hidden: Tensor, rows: Rows = ALL) -> Tensor:
        """Parts of the hidden layer [..., rows, M] as those of the output, without its bias."""
        out = hidden @ self.out_weight.T
        return out if self.post is None else self.post.apply(out, rows)

    def bias_part(self) -> Tensor:
        """What of the output is there without any hidden unit: [T, D]."""
        out = self.hidden.new_zeros(len(self.hidden), len(self.out_weight))
        if self.out_bias is not None:
            out = out + self.out_bias
        return out if self.post is None else self.post.whole(out)


def through(norm: FrozenNorm | None, direction: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    """A direction after a norm that may not be there as one before it, and the constant."""
    if norm is None:
        return direction, direction.new_zeros(direction.shape[:-1])
    return norm.adjoint(direction, rows), norm.constant(direction, rows)
