from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from harness.dictionaries.dictionary import (
    Activation,
    Dictionary,
    DictionarySet,
    largest,
    random_dictionary,
)
from harness.errors import HarnessError

WIDTH, FEATURES, K = 6, 11, 3
ACTIVATIONS: list[Activation] = ["relu_l1", "topk", "batchtopk", "jumprelu"]


def filled(activation: Activation, seed: int = 0, *, pre_bias: bool = True) -> Dictionary:
    one = random_dictionary(
        WIDTH, FEATURES, activation, seed=seed, k=K if activation == "topk" else None,
        pre_bias=pre_bias,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for weight in (one.encoder, one.encoder_bias, one.decoder_bias):
            weight.add_(0.3 * torch.randn(weight.shape, generator=draw))
        if one.threshold is not None:
            one.threshold.copy_(torch.rand(one.threshold.shape, generator=draw) * 0.5)
    return one


def by_hand(one: Dictionary, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Code and reconstruction of one activation [D], feature by feature."""
    enc, dec = one.encoder.detach().numpy(), one.decoder.detach().numpy()
    b_enc, b_dec = one.encoder_bias.detach().numpy(), one.decoder_bias.detach().numpy()
    before = np.array(
        [sum(enc[f] * (x - b_dec if one.pre_bias else x)) + b_enc[f] for f in range(FEATURES)]
    )
    code = np.zeros(FEATURES)
    largest = sorted(range(FEATURES), key=lambda f: -before[f])[:K]
    for f in range(FEATURES):
        above = 0.0
        if one.activation == "topk" and f not in largest:
            continue
        if one.threshold is not None:
            threshold = one.threshold.expand(FEATURES).numpy()
            above = float(threshold[f])
        code[f] = before[f] if before[f] > above else 0.0
    return code, sum(code[f] * dec[f] for f in range(FEATURES)) + b_dec


@pytest.mark.parametrize("pre_bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_codes_are_those_of_the_formula(activation: Activation, pre_bias: bool) -> None:
    one = filled(activation, pre_bias=pre_bias).double()
    x = torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    code = one.encode(x)
    for place in np.ndindex(2, 4):
        expected, decoded = by_hand(one, x[place].numpy())
        np.testing.assert_allclose(code[place].detach(), expected, atol=1e-12)
        np.testing.assert_allclose(one.decode(code)[place].detach(), decoded, atol=1e-12)
    assert torch.equal(one.active(x), code > 0)
    assert torch.equal(one(x), one.decode(code))
    if activation == "topk":
        assert (code > 0).sum(-1).max() <= K


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_with_frozen_activity_the_code_is_affine(activation: Activation) -> None:
    """What a trace relies on: code = active · (encoder · x + constant), with this gradient."""
    one = filled(activation).double()
    x = torch.randn(5, WIDTH, dtype=torch.float64, requires_grad=True)
    code = one.encode(x)
    active = one.active(x)
    assert 0 < active.sum() < active.numel()
    expected = torch.where(active, one.before_activation(x), 0)
    torch.testing.assert_close(code, expected, atol=0, rtol=0)
    (gradient,) = torch.autograd.grad(code.sum(), x)
    torch.testing.assert_close(gradient, active.double() @ one.encoder)


@given(seed=st.integers(0, 10**6), activation=st.sampled_from(["relu_l1", "jumprelu"]))
@settings(max_examples=20, deadline=None)
def test_normalising_changes_no_reconstruction(seed: int, activation: Activation) -> None:
    one = filled(activation, seed).double()
    with torch.no_grad():
        one.decoder *= torch.rand(FEATURES, 1, dtype=torch.float64) * 3 + 0.1
    x = torch.randn(7, WIDTH, dtype=torch.float64)
    before, length = one(x), one.decoder.norm(dim=1)
    code = one.encode(x)
    one.normalise()
    torch.testing.assert_close(one.decoder.norm(dim=1), torch.ones_like(length))
    torch.testing.assert_close(one(x), before)
    torch.testing.assert_close(one.encode(x), code * length)


def test_a_topk_code_has_k_features_where_enough_are_positive() -> None:
    one = filled("topk")
    with torch.no_grad():
        one.encoder_bias += 10
    assert ((one.encode(torch.randn(20, WIDTH)) > 0).sum(-1) == K).all()


def test_ties_do_not_make_a_topk_code_larger() -> None:
    one = Dictionary(WIDTH, FEATURES, "topk", k=K)
    with torch.no_grad():
        one.encoder_bias += 1
    assert ((one.encode(torch.zeros(4, WIDTH)) > 0).sum(-1) == K).all()


@given(
    size=st.integers(1, 40).map(lambda n: 4 * n) | st.integers(1, 100),
    share=st.floats(0, 1) | st.floats(0, 1 / 16),
    few=st.sampled_from([2, 5, 1000]),
    seed=st.integers(0, 10**6),
)
def test_the_largest_are_those_of_one_selection_among_all(
    size: int, share: float, few: int, seed: int
) -> None:
    k = max(1, round(share * size))
    draws = torch.Generator().manual_seed(seed)
    values = torch.randint(-few, few, (3, 2, size), generator=draws).double()
    places = largest(values, k)
    assert all(len(set(row)) == k for row in places.flatten(0, 1).tolist())
    found = values.gather(-1, places).sort(descending=True).values
    assert torch.equal(found, values.sort(descending=True).values[..., :k])


def test_what_is_no_dictionary_is_refused() -> None:
    with pytest.raises(HarnessError, match=r"unknown activation 'gated'.*known: relu_l1"):
        Dictionary(WIDTH, FEATURES, "gated")  # type: ignore[arg-type]
    with pytest.raises(HarnessError, match="needs k of 1 to 11"):
        Dictionary(WIDTH, FEATURES, "topk", k=12)


def test_a_set_is_a_mapping_that_moves_and_freezes_as_one() -> None:
    dictionaries = DictionarySet({"a0.out": filled("topk"), "m0.out": filled("jumprelu")})
    assert list(dictionaries) == ["a0.out", "m0.out"]
    assert len(dictionaries) == 2
    dictionaries.to(dtype=torch.float64).frozen()
    weights: list[Tensor] = [w for one in dictionaries.values() for w in one.parameters()]
    assert {w.dtype for w in weights} == {torch.float64}
    assert not any(w.requires_grad for w in weights)
