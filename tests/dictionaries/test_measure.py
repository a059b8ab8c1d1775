"""Measures of dictionaries are those of their definitions, one token at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.feature_sets import exact
from support.toy_task import FirstToken

from harness.dictionaries.dictionary import DictionarySet, random_dictionary
from harness.dictionaries.measure import FREQUENCIES, behaviour, measure, opposites
from harness.dictionaries.sites import activations
from harness.dictionaries.splice import splice_kl
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer, random_model

CONFIG = TransformerConfig(n_layers=2, n_heads=2, d_model=8, d_head=4, d_mlp=12, d_vocab=6, n_ctx=4)
SITES = ("a0.out", "m0.out", "a1.out", "m1.out")


@pytest.fixture
def model() -> Transformer:
    one = random_model(CONFIG, 3)
    with torch.no_grad():
        one.embedding.mul_(50)  # random embeddings are small; so that logits differ
        one.unembedding.mul_(50)
    return one


def test_an_exact_dictionary_costs_nothing(model: Transformer) -> None:
    pairs = FirstToken().pairs("test", 50, 0)
    measures = measure(model, DictionarySet({site: exact(8) for site in SITES}), pairs)
    assert measures.spliced["kl"] == pytest.approx(0, abs=1e-6)
    for name in ("accuracy", "good_mass", "loss"):
        assert measures.spliced[name] == pytest.approx(measures.model[name], abs=1e-5)
    for one in measures.sites:
        assert one.ev == pytest.approx(1)
        assert one.cosine == pytest.approx(1)
        assert one.l0 == pytest.approx(8)
        assert one.opposite == 2 * (one.alive - 8) > 0  # both signs of a direction fired
        assert one.recovered is None or one.recovered == pytest.approx(1, abs=1e-4)
    assert measures.tokens == 200
    assert measures.record()["l0"] == pytest.approx(8)


def test_measures_are_those_of_the_definitions(model: Transformer) -> None:
    pairs = FirstToken().pairs("test", 30, 0)
    one = random_dictionary(8, 20, "batchtopk", seed=1)
    assert one.threshold is not None
    one.threshold.fill_(0.4)
    measures = measure(model, DictionarySet({"m0.out": one}), pairs).sites[0]
    tokens = torch.from_numpy(pairs.clean)
    x = activations(model, tokens, ["m0.out"])["m0.out"].double().numpy()
    code = one.encode(torch.from_numpy(x).float()).detach().numpy()
    decoded = one(torch.from_numpy(x).float()).detach().numpy()
    flat, off = x.reshape(-1, 8), (x - decoded).reshape(-1, 8)
    variance = ((flat - flat.mean(0)) ** 2).sum()
    assert measures.ev == pytest.approx(1 - (off**2).sum() / variance, rel=1e-5)
    assert measures.l0 == pytest.approx((code > 0).sum() / len(flat))
    np.testing.assert_allclose(measures.l0_by_position, (code > 0).sum((0, 2)) / 30)
    often = (code > 0).mean((0, 1))
    assert measures.alive == (often > 0).sum()
    assert measures.dense == (often > 0.5).sum()
    assert sum(measures.frequencies) == 20
    assert len(measures.frequencies) == len(FREQUENCIES)
    assert measures.frequencies[0] == (often == 0).sum()
    norms = np.linalg.norm(flat, axis=1)
    assert measures.norm == pytest.approx(norms.mean(), rel=1e-5)
    assert measures.error_share == pytest.approx(
        np.linalg.norm(off, axis=1).mean() / norms.mean(), rel=1e-4
    )


def test_a_splice_changes_what_follows_it(model: Transformer) -> None:
    pairs = FirstToken().pairs("test", 20, 0)
    one = random_dictionary(8, 4, "relu_l1", seed=1)
    plain = model(torch.from_numpy(pairs.clean)).log_softmax(-1)

    def run(x: torch.Tensor) -> torch.Tensor:
        first, second = model.layers()
        x = x + first.add_attention(first.project(first.heads(x)))
        return second(x + one(first.mlp(x)))

    tokens = torch.from_numpy(pairs.clean)
    other = model.unembed(run(model.start(tokens)), tokens).log_softmax(-1)
    expected = (plain.exp() * (plain - other)).sum(-1).mean().item()
    assert expected > 1e-4
    spliced = behaviour(model, pairs, {"m0.out": one})
    assert spliced["kl"] == pytest.approx(expected, rel=1e-4)
    assert splice_kl(model, DictionarySet({"m0.out": one}), pairs) == pytest.approx(
        expected, rel=1e-4
    )


def test_opposites_are_counted() -> None:
    rows = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0.6, 0.8]])
    assert opposites(rows) == 2
    assert opposites(rows[:0]) == 0
