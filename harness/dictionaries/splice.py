"""Running a model in which sites are replaced, by what their dictionaries decode or by nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.datasets.pairs import PromptPairs
from harness.dictionaries.dictionary import DictionarySet
from harness.models.sites import tapped_run
from harness.models.transformer import Transformer

Replace = Callable[[Tensor], Tensor]

PROMPTS = 64
"""Prompts of one run."""


def replaced_logits(
    model: Transformer,
    tokens: Tensor,
    replace: Mapping[str, Replace],
    lengths: Tensor | None,
    *,
    half: bool = False,
) -> Tensor:
    """Logits [B, T, V] with each of some sites replaced by a function of what it holds.

    `half`: products are in bfloat16, but for those of the logits.
    """

    def tap(site: str, value: Tensor) -> Tensor:
        return replace[site](value) if site in replace else value

    with torch.autocast(model.embedding.device.type, torch.bfloat16, enabled=half):
        stream = tapped_run(model, tokens, tap, lengths)
    return model.to_logits(stream, tokens)


@dataclass(frozen=True)
class Run:
    """B prompts: `tokens` [B, T], `lengths` [B], `rows` [B, T] (which tokens are no padding)."""

    tokens: Tensor
    lengths: Tensor
    rows: Tensor


def held_out(pairs: PromptPairs, device: torch.device | str) -> Iterator[Run]:
    """The clean prompts of pairs, in runs of equal length."""
    for _, part in pairs.buckets(PROMPTS):
        tokens = torch.from_numpy(part.clean.astype(np.int64)).to(device)
        lengths = torch.from_numpy(part.lengths.astype(np.int64)).to(device)
        yield Run(tokens, lengths, torch.ones_like(tokens, dtype=torch.bool))


def divergence(plain: Tensor, other: Tensor) -> Tensor:
    """KL (nats) of one distribution over tokens from another, from logits [..., V]: [...]."""
    one, two = plain.float().log_softmax(-1), other.float().log_softmax(-1)
    return (one.exp() * (one - two)).sum(-1)


@torch.no_grad()
def splice_kl(model: Transformer, dictionaries: DictionarySet, pairs: PromptPairs) -> float:
    """Mean KL (nats) over all tokens of the clean prompts, all sites replaced at once."""
    total, count = 0.0, 0
    for prompt in held_out(pairs, model.embedding.device):
        plain = model(prompt.tokens, prompt.lengths)
        other = replaced_logits(model, prompt.tokens, dictionaries, prompt.lengths)
        kl = divergence(plain, other)[prompt.rows]
        total, count = total + float(kl.sum(dtype=torch.float64)), count + len(kl)
    return total / count
