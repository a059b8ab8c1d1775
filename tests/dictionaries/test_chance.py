"""Random dictionaries: as many features active as asked for, around each site's mean."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.toy_task import FirstToken

from harness.dictionaries.dictionary import DictionarySet
from harness.dictionaries.training.buffer import Buffer
from harness.dictionaries.training.chance import random_dictionaries
from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer, random_model
from harness.spec.types import DictionaryForm, RandomDictionary

CONFIG = TransformerConfig(n_layers=2, n_heads=2, d_model=8, d_head=4, d_mlp=12, d_vocab=6, n_ctx=4)


def model_of() -> Transformer:
    model = random_model(CONFIG, 3)
    with torch.no_grad():
        model.embedding.mul_(50)
    return model


def drawn(activation: str = "batchtopk", **more: Any) -> tuple[RandomDictionary, DictionarySet]:
    spec = RandomDictionary(
        task="toy", sites=("attention", "m1.hidden"), tokens=400,
        dictionary=DictionaryForm(activation=activation, features=24, k=5, k_by_site={"a1": 2}),
        **more,
    )  # fmt: skip
    return spec, random_dictionaries(model_of(), spec, FirstToken(), "next_token")


@pytest.mark.parametrize("activation", ["batchtopk", "topk"])
def test_as_many_features_are_active_as_asked_for(activation: str) -> None:
    spec, one = drawn(activation)
    buffer = Buffer(
        model_of(), FirstToken(), _sites(one), size=400, seed=spec.seed, objective="next_token"
    )
    buffer.fill()
    assert {site: d.width for site, d in one.items()} == {"a0.out": 8, "a1.out": 8, "m1.hidden": 12}
    for site, k in (("a0.out", 5), ("a1.out", 2), ("m1.hidden", 5)):
        x, dictionary = buffer.held[site], one[site]
        rows = dictionary.decoder
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(24))
        assert torch.equal(dictionary.encoder, rows)
        torch.testing.assert_close(dictionary.decoder_bias, x.mean(0))
        active = dictionary.active(x).sum(1).double()
        if activation == "topk":
            assert (active <= k).all()
        # Rows that are equal are tied at the threshold; those above it are no more than asked for.
        assert 0.6 * k < float(active.mean()) <= k
        assert not any(weight.requires_grad for weight in dictionary.parameters())


def _sites(one: DictionarySet) -> Any:
    from harness.dictionaries.sites import chosen_sites

    return chosen_sites(CONFIG, list(one))


def test_directions_are_those_of_the_seed() -> None:
    (_, first), (_, again), (_, other) = drawn(), drawn(), drawn(seed=1)
    for site in first:
        assert torch.equal(first[site].decoder, again[site].decoder)
        assert not torch.equal(first[site].decoder, other[site].decoder)
    assert not torch.equal(first["a0.out"].decoder, first["a1.out"].decoder)


def test_sites_that_are_not_there_are_refused() -> None:
    spec = RandomDictionary(task="toy", sites=("a5",), dictionary=DictionaryForm(features=4, k=2))
    with pytest.raises(HarnessError, match="no site 'a5'"):
        random_dictionaries(model_of(), spec, FirstToken(), "next_token")
