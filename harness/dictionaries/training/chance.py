"""Dictionaries that nothing was learned of: what those of a training are compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.datasets.pairs import Objective
from harness.dictionaries.dictionary import Dictionary, DictionarySet, random_dictionary
from harness.dictionaries.sites import by_site, chosen_sites
from harness.dictionaries.training.buffer import Buffer, PromptStream
from harness.models.transformer import Transformer
from harness.spec.types import DictionaryForm, RandomDictionary


@torch.no_grad()
def random_dictionaries(
    model: Transformer, spec: RandomDictionary, prompts: PromptStream, objective: Objective
) -> DictionarySet:
    """Random unit directions around each site's mean, as many of them active as the spec says.

    Each is read by the encoder as it is written. Raises `HarnessError` for sites that the model
    does not have.
    """
    form = spec.dictionary
    sites = chosen_sites(model.config, spec.sites)
    k_of = by_site([one.name for one in sites], form.k_by_site, form.k or 0)
    buffer = Buffer(model, prompts, sites, size=spec.tokens, seed=spec.seed, objective=objective)
    buffer.fill()
    drawn = {
        site: _around_mean(x, form, k_of[site], spec.seed * 1_000_003 + at)
        for at, (site, x) in enumerate(buffer.held.items())
    }
    return DictionarySet(drawn).frozen()


def _around_mean(x: Tensor, form: DictionaryForm, k: int, seed: int) -> Dictionary:
    """One for activations x [N, D], with k features active at a token of them."""
    one = random_dictionary(
        x.shape[1],
        form.features,
        form.activation,
        seed=seed,
        k=k if form.activation == "topk" else None,
        pre_bias=form.pre_bias,
    ).to(x.device)
    one.decoder_bias.copy_(x.mean(0))
    if one.threshold is not None:
        before = one.before_activation(x)
        rank = before.numel() - len(x) * min(k, form.features)
        one.threshold.copy_(before.flatten().kthvalue(max(1, rank)).values.clamp(min=0))
    return one
