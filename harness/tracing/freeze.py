"""From the values at all sites of one run to its frozen modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from harness.models.norm import Norm
from harness.models.transformer import Block, Transformer
from harness.tracing.frozen.attention import FrozenAttention
from harness.tracing.frozen.gates import capped_share
from harness.tracing.frozen.mlps import FrozenMLP
from harness.tracing.frozen.norms import FrozenNorm
from harness.tracing.frozen.scores import FrozenScores

Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class Frozen:
    """All that is not linear, at its values in a run of T tokens.

    By layer: `attentions`, `scores`, and `mlps` where there are any. `final`: the last norm.
    `raw` [T, V]: logits before a soft cap, which multiplies them by `cap_share` [T, V].
    """

    attentions: tuple[FrozenAttention, ...]
    scores: tuple[FrozenScores, ...]
    mlps: tuple[FrozenMLP, ...]
    final: FrozenNorm
    raw: Tensor
    cap_share: Tensor
    added: Tensor | None
    """What is added to the logits that the stream does not give, [T, V]: biases, a bigram table."""


def freeze(model: Transformer, tokens: Tensor, values: Values, prompts: int = 1) -> Frozen:
    """Freeze a run of tokens [T] of prompts end to end; `values`: every site's, [T, width]."""
    stream = values["embed"] + model.position(len(tokens) // prompts).repeat(prompts, 1)
    attentions, scores, mlps = [], [], []
    for block in model.layers():
        layer, before = block.layer, stream
        norm = FrozenNorm.of(block.attention_norm, stream, _mask(block, "a.in", values))
        frozen_scores = FrozenScores.of(block, norm, values, _mask, prompts)
        scores.append(frozen_scores)
        attentions.append(_attention(block, norm, frozen_scores.pattern, values))
        stream = stream + values[f"a{layer}.out"]
        if block.config.has_mlp:
            read = before if block.config.parallel else stream
            mlps.append(_mlp(block, read, values))
            stream = stream + values[f"m{layer}.out"]
    matrix = model.embedding if model.config.tied else model.unembedding
    added = _added(model, tokens)
    raw = F.linear(values["final"], matrix)
    raw = raw if added is None else raw + added
    return Frozen(
        tuple(attentions),
        tuple(scores),
        tuple(mlps),
        FrozenNorm.of(model.final_norm, stream),
        raw,
        capped_share(raw, model.config.logit_softcap),
        added,
    )


def _added(model: Transformer, tokens: Tensor) -> Tensor | None:
    parts = []
    if model.unembedding_bias is not None:
        parts.append(model.unembedding_bias.expand(len(tokens), -1))
    if model.config.bigram_table:
        parts.append(F.embedding(tokens, model.bigram_table))
    return sum(parts[1:], parts[0]) if parts else None


def _attention(block: Block, norm: FrozenNorm, pattern: Tensor, values: Values) -> FrozenAttention:
    config, groups = block.config, block.config.n_groups
    weight, bias = block.read_weights()
    z = values[f"a{block.layer}.z"]
    mask = _mask(block, "a.v", values)
    return FrozenAttention(
        norm=norm,
        pattern=pattern,
        values=values[f"a{block.layer}.v"].unflatten(-1, (groups, -1)),
        value_mask=None if mask is None else mask.unflatten(-1, (groups, -1)),
        value_map=weight[-groups:].transpose(1, 2),
        value_bias=None if bias is None else bias[-groups:, 0],
        out_map=block.out_weights(),
        out_bias=block.out_map.bias,
        post=_post(
            block.attention_post_norm if config.post_norms else None,
            block.project(z.unflatten(-1, (config.n_heads, -1))),
            _mask(block, "a.out", values),
        ),
    )


def _mlp(block: Block, stream: Tensor, values: Values) -> FrozenMLP:
    norm = FrozenNorm.of(block.mlp_norm, stream, _mask(block, "m.in", values))
    hidden = values[f"m{block.layer}.hidden"]
    post = _post(
        block.mlp_post_norm if block.config.post_norms else None,
        block.mlp_out(hidden),
        _mask(block, "m.out", values),
    )
    mask = _mask(block, "m.hidden", values)
    return FrozenMLP.of(block, norm, values[f"m{block.layer}.in"], hidden, mask, post)


def _post(norm: Norm | None, out: Tensor, mask: Tensor | None) -> FrozenNorm | None:
    """What follows an output map that gave `out` [T, D]: a norm, a mask, both or nothing."""
    if norm is not None:
        return FrozenNorm.of(norm, out, mask)
    return None if mask is None else FrozenNorm(mask, None, False)


def _mask(block: Block, kind: str, values: Values) -> Tensor | None:
    """What AbsTopK kept at a site of the run, [T, width]; None where it keeps all."""
    if kind not in block.kept:
        return None
    value = values[f"{kind[0]}{block.layer}{kind[1:]}"]
    return (value != 0).to(value.dtype)
