"""Attention with its pattern held at that of one run: linear in the values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.tracing.frozen.mlps import through
from harness.tracing.frozen.norms import ALL, FrozenNorm, Rows


@dataclass(frozen=True)
class FrozenAttention:
    """head_i = Σ_j pattern_ij · (value_map · norm(x_j) + value_bias), out = post(Σ maps · heads).

    H heads of width K in G groups of values. `pattern` [H, T, T], `values` [T, G, K] the values
    after their mask, `value_mask` [T, G, K] what of them is kept (None: all).
    """

    norm: FrozenNorm
    pattern: Tensor
    values: Tensor
    value_mask: Tensor | None
    value_map: Tensor  # [G, K, D]
    value_bias: Tensor | None  # [G, K]
    out_map: Tensor  # [H, K, D]
    out_bias: Tensor | None
    post: FrozenNorm | None

    @property
    def heads(self) -> int:
        """H."""
        return len(self.pattern)

    @property
    def shared_by(self) -> int:
        """Heads of a group."""
        return len(self.pattern) // len(self.value_map)

    # ------------------------------------------------------------ backward
    def pull(self, direction: Tensor, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Directions [N, T, D] of the output as those of the stream [N, T, D], and constants [N].

        `kept` [N, T, H]: heads that pass anything on, all if None. The constant is what the biases
        of values and norm contribute; those after the heads are in `after_heads`.
        """
        direction, _ = through(self.post, direction, ALL)
        heads = torch.einsum("ntd,hkd->nhtk", direction, self.out_map)
        if kept is not None:
            heads = heads * kept.transpose(1, 2)[..., None]
        values = torch.einsum("hij,nhik->njhk", self.pattern, heads)
        values = values.unflatten(2, (-1, self.shared_by)).sum(3)  # [N, T, G, K]
        if self.value_mask is not None:
            values = values * self.value_mask
        read = torch.einsum("ntgk,gkd->ntd", values, self.value_map)
        constant = self.norm.constant(read).sum(-1)
        if self.value_bias is not None:
            constant = constant + (values * self.value_bias).sum((-1, -2, -3))
        return self.norm.adjoint(read), constant

    def pull_heads(self, direction: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Directions [N, D] of the output at one token each, apart by head.

        Returns directions of the stream [N, H, T, D], and what the biases of values and norm
        contribute through each head [N, H].
        """
        direction, _ = through(self.post, direction, rows)
        heads = torch.einsum("nd,hkd->nhk", direction, self.out_map)
        weights = self.pattern[:, rows].transpose(0, 1)  # [N, H, T]
        values = (weights[..., None] * heads[:, :, None]).transpose(1, 2)  # [N, T, H, K]
        grouped = values.unflatten(2, (-1, self.shared_by))  # [N, T, G, S, K]
        if self.value_mask is not None:
            grouped = grouped * self.value_mask[:, :, None]
        read = torch.einsum("ntgsk,gkd->ngstd", grouped, self.value_map).flatten(1, 2)
        constant = self.norm.constant(read)
        if self.value_bias is not None:
            biased = torch.einsum("ntgsk,gk->ngst", grouped, self.value_bias)
            constant = constant + biased.flatten(1, 2)
        return self.norm.adjoint(read), constant.sum(-1)

    def after_heads(self, direction: Tensor, rows: Rows = ALL) -> Tensor:
        """What biases after the heads contribute in a direction [..., rows, D]: [..., rows]."""
        direction, constant = through(self.post, direction, rows)
        return constant if self.out_bias is None else constant + direction @ self.out_bias

    # ------------------------------------------------------------ forward
    def head_parts(self) -> Tensor:
        """What each head adds to the stream, [T, H, D]; with `bias_part` it sums to the output."""
        values = self.values.repeat_interleave(self.shared_by, 1)
        mixed = torch.einsum("hij,jhk->ihk", self.pattern, values)
        parts = torch.einsum("thk,hkd->htd", mixed, self.out_map)
        return (parts if self.post is None else self.post.apply(parts)).transpose(0, 1)

    def bias_part(self) -> Tensor:
        """What of the output belongs to no head: [T, D]."""
        out = self.values.new_zeros(len(self.values), self.out_map.shape[-1])
        if self.out_bias is not None:
            out = out + self.out_bias
        return out if self.post is None else self.post.whole(out)
