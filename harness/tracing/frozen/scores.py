"""Attention scores with the scales of their norms held at those of one run: bilinear."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.models.rotary import apply_rotary
from harness.models.transformer import Block
from harness.tracing.frozen.gates import capped_share
from harness.tracing.frozen.norms import FrozenNorm

Mask = Callable[[Block, str, Mapping[str, Tensor]], Tensor | None]


@dataclass(frozen=True)
class FrozenSide:
    """Queries or keys: rotate(norm(mask · (map · norm(x) + bias))), for R heads or groups.

    `final` [R, T, K]: their values in the run. `turn` [T, K, K]: what rotary positions multiply
    rows by, None without. `scale` [R, T, K]: mask and weight over the frozen scale of their own
    norm; `constants` [R, T, K]: what the stream does not give.
    """

    stream: FrozenNorm
    map: Tensor  # [R, K, D]
    scale: FrozenNorm | None
    mask: Tensor | None
    bias: Tensor | None  # [R, K]
    turn: Tensor | None
    final: Tensor

    def parts(self, vectors: Tensor, rows: Tensor, head: int) -> Tensor:
        """Parts [E, D] of the stream at tokens [E] as parts of a head's query or key, [E, K]."""
        inner = self.stream.apply(vectors, rows) @ self.map[head].T
        return self._after(inner, rows, head)

    def constant(self, rows: Tensor, head: int) -> Tensor:
        """What biases give at tokens [E], [E, K]."""
        inner = self.final.new_zeros(len(rows), self.final.shape[-1])
        if self.stream.bias is not None:
            inner = self.stream.bias[rows] @ self.map[head].T
        if self.bias is not None:
            inner = inner + self.bias[head]
        out = self._masked(inner, rows, head)
        if self.scale is not None:
            out = self.scale.apply(out, (head, rows))
            if self.scale.bias is not None:
                out = out + self.scale.bias[head, rows]
        return self._turned(out, rows)

    def adjoint(self, direction: Tensor, rows: Tensor, head: int) -> tuple[Tensor, Tensor]:
        """Directions [E, K] of a head's queries or keys at tokens [E] as those of the stream.

        And what biases contribute in them, [E].
        """
        constant = (direction * self.constant(rows, head)).sum(-1)
        if self.turn is not None:
            direction = (direction[:, None] @ self.turn[rows].transpose(-1, -2))[:, 0]
        if self.scale is not None:
            direction = self.scale.adjoint(direction, (head, rows))
        direction = self._masked(direction, rows, head)
        return self.stream.adjoint(direction @ self.map[head], rows), constant

    def _after(self, inner: Tensor, rows: Tensor, head: int) -> Tensor:
        out = self._masked(inner, rows, head)
        if self.scale is not None:
            out = self.scale.apply(out, (head, rows))
        return self._turned(out, rows)

    def _masked(self, inner: Tensor, rows: Tensor, head: int) -> Tensor:
        return inner if self.mask is None else inner * self.mask[head, rows]

    def _turned(self, x: Tensor, rows: Tensor) -> Tensor:
        return x if self.turn is None else (x[:, None] @ self.turn[rows])[:, 0]


@dataclass(frozen=True)
class FrozenScores:
    """score_ij = scale · cap_ij · query_i · key_j, weights its softmax over the keys seen.

    With an attention sink the weights of a query sum to less than one. A query sees keys of its own
    prompt alone.

    `pattern` [H, T, T]: the weights. `cap` [H, T, T]: what a soft cap multiplies scores by, None
    without. `seen` [T, T]: which keys a query sees. `shared_by`: heads of a group of keys.
    """

    queries: FrozenSide
    keys: FrozenSide
    scale: float
    cap: Tensor | None
    seen: Tensor
    shared_by: int
    pattern: Tensor

    @classmethod
    def of(
        cls,
        block: Block,
        norm: FrozenNorm,
        values: Mapping[str, Tensor],
        mask: Mask,
        prompts: int = 1,
    ) -> FrozenScores:
        """Of a run of prompts end to end whose values at the sites of the block are `values`."""
        config = block.config
        scale = 1 / math.sqrt(config.d_head) if config.query_scale is None else config.query_scale
        weight, bias = block.read_weights()
        heads, groups = config.n_heads, config.n_groups
        sides = []
        for name, rows in (("q", slice(heads)), ("k", slice(heads, heads + groups))):
            own = _by_head(values[f"a{block.layer}.{name}"], config.d_head)
            side_mask = mask(block, f"a.{name}", values)
            norm_of = {"q": "query_norm", "k": "key_norm"}[name]
            scaled = FrozenNorm.of(getattr(block, norm_of), own) if config.qk_norm else None
            final = own if scaled is None else scaled.whole(own)
            rotary = config.rotary_of(block.layer)
            turn = None
            if rotary is not None:
                identity = torch.eye(config.d_head, dtype=own.dtype, device=own.device)
                length = own.shape[1] // prompts
                turned = apply_rotary(identity[:, None].expand(-1, length, -1), rotary)
                # Row k of [T, K, K] is what coordinate k becomes.
                turn = turned.transpose(0, 1).repeat(prompts, 1, 1)
                final = apply_rotary(final.unflatten(1, (prompts, length)), rotary).flatten(1, 2)
            sides.append(
                FrozenSide(
                    norm,
                    weight[rows].transpose(1, 2),
                    scaled,
                    None if side_mask is None else _by_head(side_mask, config.d_head),
                    None if bias is None else bias[rows, 0],
                    turn,
                    final,
                )
            )
        queries, keys = sides
        each = heads // groups
        scores = queries.final @ keys.final.repeat_interleave(each, 0).transpose(-1, -2) * scale
        cap = config.attention_softcap
        share = None if cap is None else capped_share(scores, cap)
        weights = scores if share is None else scores * share
        seen = _seen(block, weights.shape[-1], prompts, weights.device)
        weights = weights.masked_fill(~seen, -torch.inf)
        if config.attention_sink:
            sink = block.sink_logit.view(-1, 1, 1).expand(-1, len(seen), 1)
            weights = torch.cat([weights, sink], -1)
        pattern = weights.softmax(-1)[..., : len(seen)]
        return cls(queries, keys, scale, share, seen, each, pattern)

    def key_weights(self, head: int, query: int, key: int, centred: bool) -> Tensor:
        """What keys [T] are multiplied by, so that query · Σ weight · key is the score.

        `centred`: less the mean score over the keys that the query sees, which the softmax does
        not notice.
        """
        weights = torch.zeros_like(self.pattern[head, query])
        weights[key] = 1
        if centred:
            seen = self.seen[query].to(weights.dtype)
            weights = weights - seen / seen.sum()
        scaled: Tensor = weights * self.scale
        return scaled if self.cap is None else scaled * self.cap[head, query]


def _by_head(x: Tensor, width: int) -> Tensor:
    heads: Tensor = x.unflatten(-1, (-1, width)).transpose(0, 1)
    return heads


def _seen(block: Block, tokens: int, prompts: int, device: torch.device) -> Tensor:
    """Which keys each query sees, bool [T, T]: of prompts end to end those of its own."""
    whole = torch.ones(tokens // prompts, tokens // prompts, dtype=torch.bool, device=device)
    seen: Tensor = torch.block_diag(*[whole] * prompts)
    if not block.config.causal:
        return seen
    window = block.config.window_of(block.layer)
    return seen.tril() if window is None else seen.tril().triu(1 - window)
