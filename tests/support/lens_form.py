"""Models of this package in TransformerLens' names and layouts, to be loaded again."""

from __future__ import annotations

import json
import math

import torch
from safetensors.torch import save_file
from torch import Tensor

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
