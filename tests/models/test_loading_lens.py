"""State dicts in TransformerLens' names and layouts."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import save_file
from support.slow_reference import small_model
from torch import Tensor

from harness.errors import HarnessError
from harness.models.checkpoint import load_model
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer

SIZES = ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "n_ctx", "d_vocab")


def in_lens_form(model: Transformer) -> tuple[dict[str, Tensor], dict[str, object]]:
    """A model's weights under TransformerLens' names, and the fields of its configuration."""
    c, ours = model.config, {name: p.detach() for name, p in model.named_parameters()}
    state = {
        "embed.W_E": ours["embedding"],
        "unembed.W_U": ours["embedding" if c.tied else "unembedding"].T,
    }
    if c.positions == "learned":
        state["pos_embed.W_pos"] = ours["position_embedding"]
    if c.unembed_bias:
        state["unembed.b_U"] = ours["unembedding_bias"]
    for layer in range(c.n_layers):
        state |= lens_attention(f"blocks.{layer}.", c, ours) | lens_mlp(f"blocks.{layer}.", c, ours)
    for name, value in ours.items():
        if "norm." in name:
            state[lens_norm(name)] = value
    return {name: value.clone().contiguous() for name, value in state.items()}, lens_config(c)


def lens_norm(name: str) -> str:
    for part, theirs in (
        ("final_norm", "ln_final"),
        ("attention_norm", "ln1"),
        ("mlp_norm", "ln2"),
        ("query_norm", "attn.q_norm"),
        ("key_norm", "attn.k_norm"),
        ("weight", "w"),
        ("bias", "b"),
    ):
        name = name.replace(part, theirs)
    return name


def lens_attention(block: str, c: TransformerConfig, ours: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {}
    marks = ("", "", "") if c.n_groups == c.n_heads else ("", "_", "_")
    for kind, letter in (("weight", "W"), ("bias", "b")):
        if f"{block}qkv_map.{kind}" in ours:
            rows = ours[f"{block}qkv_map.{kind}"].unflatten(0, (-1, c.d_head))
            parts = rows.split([c.n_heads, c.n_groups, c.n_groups])
            for part, mark, value in zip("QKV", marks, parts, strict=True):
                turned = value.transpose(1, 2) if kind == "weight" else value
                state[f"{block}attn.{mark}{letter}_{part}"] = turned
    out = ours[f"{block}out_map.weight"].unflatten(1, (c.n_heads, c.d_head))
    state[f"{block}attn.W_O"] = out.permute(1, 2, 0)
    if f"{block}out_map.bias" in ours:
        state[f"{block}attn.b_O"] = ours[f"{block}out_map.bias"]
    state[f"{block}attn.mask"] = torch.ones(3, 3, dtype=torch.bool)
    state[f"{block}attn.IGNORE"] = torch.tensor(-torch.inf)
    return state


def lens_mlp(block: str, c: TransformerConfig, ours: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {f"{block}mlp.W_out": ours[f"{block}mlp_out.weight"].T}
    into = ours[f"{block}mlp_in.weight"].T
    if c.gated:
        state[f"{block}mlp.W_gate"], state[f"{block}mlp.W_in"] = into.chunk(2, 1)
        state[f"{block}mlp.b_in"] = torch.zeros(c.d_mlp)
    else:
        state[f"{block}mlp.W_in"] = into
    for name in ("in", "out"):
        if f"{block}mlp_{name}.bias" in ours:
            state[f"{block}mlp.b_{name}"] = ours[f"{block}mlp_{name}.bias"]
    return state


def lens_config(c: TransformerConfig) -> dict[str, object]:
    turns = {}
    if c.rotary is not None:
        turns = {"rotary_base": c.rotary.base, "rotary_dim": c.rotary.n_rotated or c.d_head}
    return turns | {
        **{name: getattr(c, name) for name in SIZES},
        "act_fn": {"gelu_tanh": "gelu_new"}.get(c.activation, c.activation),
        "normalization_type": {"layernorm": "LN", "rmsnorm": "RMS", "none": None}[c.norm],
        "eps": c.norm_eps,
        "positional_embedding_type": {"learned": "standard"}.get(c.positions, c.positions),
        "attn_scale": math.sqrt(c.d_head) if c.query_scale is None else 1 / c.query_scale,
        "attention_dir": "causal" if c.causal else "bidirectional",
        "n_key_value_heads": c.n_key_value_heads,
        "parallel_attn_mlp": c.parallel,
        "gated_mlp": c.gated,
        "use_qk_norm": c.qk_norm,
        "attn_scores_soft_cap": c.attention_softcap or -1.0,
        "output_logits_soft_cap": c.logit_softcap or -1.0,
    }


def write(folder, state, config):
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


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
