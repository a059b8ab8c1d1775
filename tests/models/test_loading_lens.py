"""State dicts in TransformerLens' names and layouts."""

from __future__ import annotations

import pytest
import torch
from support.lens_form import in_lens_form, write
from support.slow_reference import small_model

from harness.errors import HarnessError
from harness.models.checkpoint import load_model


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gpt2-like", {}),
        ("rmsnorm", {}),
        ("no-norm-bidirectional", {}),
        ("tied-wide-heads", {}),
        ("grouped", {}),
        ("parallel", {"unembed_bias": True}),
        ("llama-like", {}),
        ("llama-like", {"qk_norm": True, "attention_softcap": 2.0, "query_scale": 0.3}),
    ],
)
def test_a_state_dict_in_lens_form_is_the_same_model(name, changes, tmp_path):
    model = small_model(name, **changes)
    write(tmp_path, *in_lens_form(model))
    for form in ("auto", "transformer_lens"):
        found = load_model(tmp_path, form)
        tokens = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 0, 1]])
        assert found.embedding.dtype == torch.float64
        torch.testing.assert_close(found(tokens), model(tokens), rtol=1e-12, atol=1e-12)


def test_norms_folded_into_the_weights(tmp_path):
    """Their processed models have no norm weights: W γ and b + βW do their work."""
    model = small_model("gpt2-like")
    state, config = in_lens_form(model)
    for layer in range(model.config.n_layers):
        block = f"blocks.{layer}."
        scale, shift = (state.pop(f"{block}ln1.{one}") for one in "wb")
        for part in "QKV":
            state[f"{block}attn.b_{part}"] += shift @ state[f"{block}attn.W_{part}"]
            state[f"{block}attn.W_{part}"] *= scale[:, None]
        scale, shift = (state.pop(f"{block}ln2.{one}") for one in "wb")
        state[f"{block}mlp.b_in"] += shift @ state[f"{block}mlp.W_in"]
        state[f"{block}mlp.W_in"] *= scale[:, None]
    scale, shift = state.pop("ln_final.w"), state.pop("ln_final.b")
    state["unembed.b_U"] = shift @ state["unembed.W_U"]
    state["unembed.W_U"] = scale[:, None] * state["unembed.W_U"]
    write(tmp_path, state, {**config, "normalization_type": "LNPre"})
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
    found = load_model(tmp_path)
    torch.testing.assert_close(found(tokens), model(tokens), rtol=1e-11, atol=1e-11)


def test_what_lens_form_can_say_and_we_cannot(tmp_path):
    state, config = in_lens_form(small_model("llama-like"))
    for changes, message in (
        ({"attn_only": True}, r"unknown blocks\.0\.ln2\.w"),
        ({"rotary_adjacent_pairs": True}, "must pair the halves"),
        ({"act_fn": "solu_ln"}, "act_fn is 'solu_ln', not one of gelu"),
        ({"normalization_type": "BN"}, "normalization_type is 'BN'"),
        ({"positional_embedding_type": "alibi"}, "'alibi', not one of standard, rotary"),
        ({"d_mlp": 21}, r"the configuration says \(42, 12\)"),
    ):
        write(tmp_path, state, {**config, **changes})
        with pytest.raises(HarnessError, match=message):
            load_model(tmp_path)
    state["blocks.1.mlp.b_in"][3] = 1.0
    write(tmp_path, state, config)
    with pytest.raises(HarnessError, match=r"blocks\.1\.mlp\.b_in has no counterpart here"):
        load_model(tmp_path)
