"""AbsTopK: exactly k entries, ties decided, in every precision; and where a model has it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.slow_reference import small_model
from torch import Tensor

from harness.errors import HarnessError
from harness.models.abs_topk import abs_topk, largest
from harness.models.checkpoint import load_model, save_model
from harness.models.config import TransformerConfig
from harness.models.sites import sites, tapped_run
from harness.models.transformer import Transformer
from harness.spec.types import ActivationSparsity

PRECISIONS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def one_by_one(row: list[float], k: int) -> list[bool]:
    """Which are kept: sorted by magnitude, the largest first, and by index."""
    order = sorted(range(len(row)), key=lambda i: (-abs(row[i]), i))
    return [i in order[:k] for i in range(len(row))]


@given(
    st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.001, -1.001, 0.5, 3e-8]), min_size=1),
    st.data(),
    st.sampled_from(PRECISIONS),
)
def test_k_entries_are_kept_and_of_equal_ones_the_first(row, data, dtype):
    k = data.draw(st.integers(1, len(row)))
    x = torch.tensor([row, row[::-1]], dtype=dtype)
    wanted = [one_by_one(one, k) for one in x.tolist()]
    assert largest(x, k).tolist() == wanted
    found = abs_topk(x, k)
    assert torch.equal(found, torch.where(torch.tensor(wanted), x, 0))


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_rows_of_any_layout_keep_exactly_k(dtype):
    """Half precision ties in most rows; rows are those of the last axis, however they lie."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(7, 40, 5, generator=draw).to(dtype)
    for rows in (x, x.transpose(1, 2), x[..., 1:4], x.transpose(0, 1)[::3]):
        k = max(1, rows.shape[-1] // 4)
        kept = largest(rows, k)
        assert (kept.sum(-1) == k).all()
        for row, mask in zip(rows.reshape(-1, rows.shape[-1]), kept.flatten(0, 1), strict=True):
            assert mask.tolist() == one_by_one(row.tolist(), k)


def test_gradients_pass_through_kept_entries_alone():
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = torch.arange(24.0).view(3, 8) + 1
    (abs_topk(x, 2) * weight).sum().backward()
    assert torch.equal(x.grad, weight * largest(x, 2))


# ---------------------------------------------------------------- in a model
def sparse_model(**changes: object) -> Transformer:
    sparsity = ActivationSparsity(keep=0.3)
    return small_model("sinks-bigrams", **({"activation_sparsity": sparsity} | changes))


def record(model: Transformer, tokens: Tensor) -> dict[str, Tensor]:
    values: dict[str, Tensor] = {}
    tapped_run(model, tokens, values.setdefault)
    return values


TOKENS = torch.randint(11, (3, 6), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("at", ["all", ("a.in", "m.hidden"), ("a.k", "a.out")])
@pytest.mark.parametrize("changes", [{}, {"n_key_value_heads": None}, {"gated": True}])
def test_every_site_keeps_its_share_and_others_keep_all(at, changes):
    model = sparse_model(activation_sparsity=ActivationSparsity(keep=0.3, at=at), **changes)
    values, chosen = record(model, TOKENS), model.config.activation_sparsity.sites
    for site in sites(model.config):
        nonzero = values[site.name].count_nonzero(-1)
        if site.kind in chosen:
            assert (nonzero == int(0.3 * site.width)).all(), site
        elif site.kind != "a.z":  # heads mix sparse values
            assert (nonzero == site.width).all(), site
    assert torch.equal(model.to_logits(values["final"], TOKENS), model(TOKENS))


def test_heads_are_ranked_together():
    """Of the queries of all heads the largest; a head may keep more than its share, or nothing."""
    model = sparse_model()
    by_head = record(model, TOKENS)["a0.q"].unflatten(-1, (4, 4)).count_nonzero(-1)
    assert by_head.sum(-1).unique().tolist() == [4]
    assert {0, 2} <= set(by_head.flatten().tolist())


def test_keeping_all_is_the_model_without():
    plain = small_model("sinks-bigrams")
    assert torch.equal(
        sparse_model(activation_sparsity=ActivationSparsity(keep=1.0))(TOKENS), plain(TOKENS)
    )
    assert not torch.equal(sparse_model()(TOKENS), plain(TOKENS))


def test_gradients_are_finite_differences():
    """Where no two entries are so close that the step changes which is kept."""
    model = sparse_model().requires_grad_(True)
    model(TOKENS).log_softmax(-1)[..., 3].sum().backward()
    draw, step = torch.Generator().manual_seed(1), 1e-7
    for name, weight in model.named_parameters():
        direction = torch.randn(weight.shape, generator=draw, dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                weight.add_(direction, alpha=sign * step)
                ends.append(float(model(TOKENS).log_softmax(-1)[..., 3].sum()))
                weight.sub_(direction, alpha=sign * step)
        wanted = float((weight.grad * direction).sum())
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(wanted, rel=1e-4, abs=1e-5), name


def test_a_checkpoint_holds_all_of_it(tmp_path):
    model = sparse_model(activation_sparsity=ActivationSparsity(keep=0.3, at=("a.in", "m.out")))
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded(TOKENS), model(TOKENS))
    assert {"bigram_table", "blocks.1.sink_logit"} <= dict(loaded.named_parameters()).keys()


@pytest.mark.parametrize(
    ("sparsity", "words"),
    [
        ({"keep": 0.01}, "keeps none of the 12 entries at a.in"),
        ({"keep": 0.0}, "keep is 0.0, not a number above 0"),
        ({"keep": 1.5}, "keep is 1.5, not a number above 0, up to 1"),
        ({"keep": 0.5, "at": "some"}, "at is some, not `all` or a list of sites"),
        ({"keep": 0.5, "at": ["a.z"]}, "activation_sparsity.at"),
        ({"keep": 0.5, "at": ["m.in"], "d_mlp": 0}, "with d_mlp 0 there are no MLPs"),
    ],
)
def test_what_cannot_be_is_refused(sparsity, words):
    config = small_model("gpt2-like").config.to_dict()
    if "d_mlp" in sparsity:
        config["d_mlp"] = sparsity.pop("d_mlp")
    with pytest.raises(HarnessError, match=words):
        TransformerConfig.from_dict(config | {"activation_sparsity": sparsity})
