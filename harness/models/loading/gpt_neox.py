"""GPT-NeoX checkpoints (Pythia): parallel attention and MLP, rotary on part of a head."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

from harness.models.config import TransformerConfig
from harness.models.loading.fields import ACTIVATIONS, Fields
from harness.models.loading.gpt2 import width_of_heads
from harness.models.loading.rope import partly_rotary
from harness.models.loading.translation import (
    Change,
    TensorSource,
    Translation,
    prefix_of,
    same_shape,
)

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = r".*\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)"  # buffers of older checkpoints


def gpt_neox(fields: Fields, tensors: Collection[str]) -> Translation:
    """GPT-NeoX of `transformers`."""
    config = _config(fields)
    prefix = prefix_of("embed_in.weight", tensors, "gpt_neox.")
    sources = {"embedding": TensorSource((f"{prefix}embed_in.weight",))}
    names = {
        "attention_norm": "input_layernorm",
        "qkv_map": "attention.query_key_value",
        "out_map": "attention.dense",
        "mlp_norm": "post_attention_layernorm",
        "mlp_in": "mlp.dense_h_to_4h",
        "mlp_out": "mlp.dense_4h_to_h",
    }
    for kind in ("weight", "bias"):
        sources[f"final_norm.{kind}"] = TensorSource((f"{prefix}final_layer_norm.{kind}",))
        for layer in range(config.n_layers):
            for ours, theirs in names.items():
                if kind == "bias" and ours in ("qkv_map", "out_map") and not config.has_bias("qkv"):
                    continue
                source = TensorSource((f"{prefix}layers.{layer}.{theirs}.{kind}",))
                if ours == "qkv_map":
                    by_part = Change(partial(_by_part, heads=config.n_heads), same_shape)
                    source = TensorSource(source.names, by_part)
                sources[f"blocks.{layer}.{ours}.{kind}"] = source
    if not config.tied:
        sources["unembedding"] = TensorSource(("embed_out.weight",))
    repeated = {"embed_out.weight": "embedding"} if config.tied else {}
    return Translation(config, sources, IGNORED, repeated)


def _config(fields: Fields) -> TransformerConfig:
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    bias = fields.flag("attention_bias", True)
    d_head = width_of_heads(fields, width, heads)
    n_ctx = fields.count("max_position_embeddings", 2048)
    return TransformerConfig(
        n_layers=fields.layers("num_hidden_layers"),
        n_heads=heads,
        d_model=width,
        d_head=d_head,
        d_mlp=fields.count("intermediate_size"),
        d_vocab=fields.count("vocab_size"),
        n_ctx=n_ctx,
        norm_eps=fields.number("layer_norm_eps", 1e-5),
        positions="rotary",
        activation=fields.choice("hidden_act", ACTIVATIONS, "gelu"),
        tied=fields.flag("tie_word_embeddings", False),
        parallel=fields.flag("use_parallel_residual", True),
        qkv_bias=bias,
        out_bias=bias,
        rotary=partly_rotary(fields, d_head, n_ctx),
    )


def _by_part(tensor: Tensor, heads: int) -> Tensor:
    """Rows (head, q k v, K) to (q k v, head, K): all queries first, then all keys, then values."""
    rest = tensor.shape[1:]
    return tensor.view(heads, 3, -1, *rest).transpose(0, 1).reshape(-1, *rest)
