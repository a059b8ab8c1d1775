"""GPT-2 checkpoints: learned positions, fused q, k, v, matrices stored [in, out]."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from torch import Tensor

from harness.models.config import TransformerConfig
from harness.models.loading.fields import ACTIVATIONS, Fields
from harness.models.loading.translation import TensorSource, Translation, prefix_of

IGNORED = r"(.*\.)?h\.\d+\.attn\.(bias|masked_bias)"  # causal masks of older checkpoints


def gpt2(fields: Fields, tensors: Collection[str]) -> Translation:
    """GPT-2 of `transformers`, with or without its output layer's prefix."""
    fields.refuse("add_cross_attention", (False,), "cross-attention is not supported")
    config = _config(fields)
    prefix = prefix_of("wte.weight", tensors, "transformer.")
    sources = {
        "embedding": TensorSource((f"{prefix}wte.weight",)),
        "position_embedding": TensorSource((f"{prefix}wpe.weight",)),
        "final_norm.weight": TensorSource((f"{prefix}ln_f.weight",)),
        "final_norm.bias": TensorSource((f"{prefix}ln_f.bias",)),
    }
    names = {
        "attention_norm": "ln_1",
        "qkv_map": "attn.c_attn",
        "out_map": "attn.c_proj",
        "mlp_norm": "ln_2",
        "mlp_in": "mlp.c_fc",
        "mlp_out": "mlp.c_proj",
    }
    by_layer = fields.flag("scale_attn_by_inverse_layer_idx", False)
    for layer in range(config.n_layers):
        for ours, theirs in names.items():
            for kind in ("weight", "bias"):
                change = _transposed
                if by_layer and ours == "qkv_map":  # scores / (layer + 1): so for the queries
                    change = partial(_queries_divided, by=layer + 1)
                sources[f"blocks.{layer}.{ours}.{kind}"] = TensorSource(
                    (f"{prefix}h.{layer}.{theirs}.{kind}",), change
                )
    if not config.tied:
        sources["unembedding"] = TensorSource(("lm_head.weight",))
    repeated = {"lm_head.weight": "embedding"} if config.tied else {}
    return Translation(config, sources, IGNORED, repeated)


def _config(fields: Fields) -> TransformerConfig:
    width, heads = fields.count("n_embd"), fields.count("n_head")
    return TransformerConfig(
        n_layers=fields.count("n_layer"),
        n_heads=heads,
        d_model=width,
        d_head=width // heads,
        d_mlp=fields.count("n_inner", 4 * width),
        d_vocab=fields.count("vocab_size"),
        n_ctx=fields.count("n_positions", 1024),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        activation=fields.choice("activation_function", ACTIVATIONS, "gelu_new"),
        tied=fields.flag("tie_word_embeddings", True),
        query_scale=None if fields.flag("scale_attn_weights", True) else 1.0,
    )


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.T if tensor.ndim == 2 else tensor


def _queries_divided(tensor: Tensor, by: int) -> Tensor:
    """q, k, v maps [in, 3·out] or biases [3·out], as rows, the queries divided."""
    rows = _transposed(tensor).double()
    rows[: len(rows) // 3] /= by
    return rows
