"""Llama checkpoints and those of its form: CodeLlama, Mistral, Qwen 2, 2.5 and 3, Gemma.

All have rotary positions, RMSNorm, gated MLPs, and keys and values that heads may share.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from harness.models.config import TransformerConfig
from harness.models.loading.fields import ACTIVATIONS, Fields
from harness.models.loading.rope import rotary_of
from harness.models.loading.translation import (
    Change,
    TensorSource,
    Translation,
    prefix_of,
    unchanged,
)

IGNORED = r".*\.rotary_emb\.inv_freq"  # a buffer of older checkpoints


def llama(fields: Fields, tensors: Collection[str]) -> Translation:
    """Llama 1 to 3 and CodeLlama; `attention_bias` and `mlp_bias` as they are set."""
    bias = fields.flag("attention_bias", False)
    mlp_bias = fields.flag("mlp_bias", False)
    config = config_of(fields, 2048, qkv_bias=bias, out_bias=bias, mlp_bias=mlp_bias)
    return translate(config, tensors)


def mistral(fields: Fields, tensors: Collection[str]) -> Translation:
    """Mistral: every layer has the window, if there is one; a null says that there is none."""
    fields.refuse("layer_types", (), "Mistral has layers of one kind")
    none = fields.is_null("sliding_window")  # absent, it is the default
    window = None if none else fields.count("sliding_window", 4096)
    layers = tuple(range(fields.layers("num_hidden_layers"))) if window else ()
    return translate(config_of(fields, 131_072, window=window, window_layers=layers), tensors)


def qwen2(fields: Fields, tensors: Collection[str]) -> Translation:
    """Qwen 2 and 2.5: queries, keys and values have a bias."""
    return translate(config_of(fields, 32_768, qkv_bias=True, **_qwen_window(fields)), tensors)


def qwen3(fields: Fields, tensors: Collection[str]) -> Translation:
    """Qwen 3: queries and keys are normalised; heads may be wider than d_model / n_heads."""
    bias = fields.flag("attention_bias", False)
    config = config_of(
        fields,
        32_768,
        d_head=fields.count("head_dim", 128),
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=True,
        **_qwen_window(fields),
    )
    return translate(config, tensors)


def config_of(
    fields: Fields, n_ctx: int, d_head: int | None = None, **more: Any
) -> TransformerConfig:
    """The configuration of a Llama; `more` are those of our fields that differ from it.

    `n_ctx`: the family's context, where the file does not state one.
    """
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    n_ctx = fields.count("max_position_embeddings", n_ctx)
    d_head = d_head or fields.count("head_dim", max(1, width // heads))
    theirs: dict[str, Any] = {
        "n_layers": fields.layers("num_hidden_layers"),
        "n_heads": heads,
        "d_model": width,
        "d_head": d_head,
        "d_mlp": fields.count("intermediate_size"),
        "d_vocab": fields.count("vocab_size"),
        "n_ctx": n_ctx,
        "n_key_value_heads": fields.count("num_key_value_heads", heads),
        "norm": "rmsnorm",
        "norm_eps": fields.number("rms_norm_eps", 1e-6),
        "positions": "rotary",
        "bias": False,
        "gated": True,
    }
    if "activation" not in more:
        more["activation"] = fields.choice("hidden_act", ACTIVATIONS, "silu")
    if "tied" not in more:
        more["tied"] = fields.flag("tie_word_embeddings", False)
    if "rotary" not in more:
        more["rotary"] = rotary_of(fields, n_ctx)
    return TransformerConfig(**{**theirs, **more})


def sliding(kinds: tuple[str, ...], fields: Fields) -> tuple[int, ...]:
    """The layers that have a window, from the kind of each layer."""
    if len(kinds) != fields.layers("num_hidden_layers"):
        fields.refuse("layer_types", (), "it must name one kind per layer")
    for kind in {*kinds} - {"sliding_attention", "full_attention"}:
        fields.refuse("layer_types", (), f"{kind!r} is an unknown kind of attention")
    return tuple(layer for layer, kind in enumerate(kinds) if kind == "sliding_attention")


def translate(
    config: TransformerConfig,
    tensors: Collection[str],
    norm_change: Change = unchanged,
    ignored: str = IGNORED,
) -> Translation:
    """The translation of a Llama's tensors, under any prefix; `norm_change` maps norm weights."""
    prefix = prefix_of("embed_tokens.weight", tensors, "model.")
    sources = {
        "embedding": TensorSource((f"{prefix}embed_tokens.weight",)),
        "final_norm.weight": TensorSource((f"{prefix}norm.weight",), norm_change),
    }
    for layer in range(config.n_layers):
        theirs, ours = f"{prefix}layers.{layer}.", f"blocks.{layer}."
        for name, parts in _linears(config).items():
            sources[ours + name] = TensorSource(tuple(theirs + part for part in parts))
        for name, part in _norms(config).items():
            sources[f"{ours}{name}.weight"] = TensorSource((f"{theirs}{part}.weight",), norm_change)
    head = next((name for name in tensors if name.endswith("lm_head.weight")), "lm_head.weight")
    if not config.tied:
        sources["unembedding"] = TensorSource((head,))
    return Translation(config, sources, ignored, {head: "embedding"} if config.tied else {})


def _linears(config: TransformerConfig) -> dict[str, tuple[str, ...]]:
    """Our linear maps of a layer and the tensors whose rows they are."""
    maps = {
        "qkv_map": (tuple(f"self_attn.{part}_proj" for part in "qkv"), config.has_bias("qkv")),
        "out_map": (("self_attn.o_proj",), config.has_bias("out")),
        "mlp_in": (("mlp.gate_proj", "mlp.up_proj"), config.has_bias("mlp")),
        "mlp_out": (("mlp.down_proj",), config.has_bias("mlp")),
    }
    return {
        f"{ours}.{kind}": tuple(f"{one}.{kind}" for one in theirs)
        for ours, (theirs, biased) in maps.items()
        for kind in (("weight", "bias") if biased else ("weight",))
    }


def _norms(config: TransformerConfig) -> dict[str, str]:
    """Our norms of a layer and theirs, whose names mean other norms where there are post-norms."""
    names = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    if config.post_norms:
        names |= {
            "attention_post_norm": "post_attention_layernorm",
            "mlp_norm": "pre_feedforward_layernorm",
            "mlp_post_norm": "post_feedforward_layernorm",
        }
    if config.qk_norm:
        names |= {"query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"}
    return names


def _qwen_window(fields: Fields) -> dict[str, Any]:
    """A window in the layers from `max_window_layers` on, or in those that `layer_types` names."""
    used, none = fields.flag("use_sliding_window", False), fields.is_null("sliding_window")
    window, first = fields.count("sliding_window", 4096), fields.number("max_window_layers", 28)
    kinds, n = fields.words("layer_types"), fields.layers("num_hidden_layers")
    layers = tuple(range(max(0, math.ceil(first)), n)) if kinds is None else sliding(kinds, fields)
    if used and not none:
        return {"window": window, "window_layers": layers}
    if kinds is not None and layers:
        fields.refuse("layer_types", (), "it names windows where there is no sliding_window")
    return {}
