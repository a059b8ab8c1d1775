"""GPT-2 checkpoints: learned positions, fused q, k, v, matrices stored [in, out]."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.loading.fields import ACTIVATIONS, Fields
from harness.models.loading.translation import (
    Change,
    TensorSource,
    Translation,
    prefix_of,
    same_shape,
)
from harness.models.shapes import Shape

if TYPE_CHECKING:
    from torch import Tensor

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
                change = _LINEAR
                if by_layer and ours == "qkv_map":  # scores / (layer + 1): so for the queries
                    change = Change(partial(_queries_divided, by=layer + 1), _transposed_shape)
                sources[f"blocks.{layer}.{ours}.{kind}"] = TensorSource(
                    (f"{prefix}h.{layer}.{theirs}.{kind}",), change
                )
    if not config.tied:
        sources["unembedding"] = TensorSource(("lm_head.weight",))
    repeated = {"lm_head.weight": "embedding"} if config.tied else {}
    return Translation(config, sources, IGNORED, repeated)


def _config(fields: Fields) -> TransformerConfig:
    width = fields.count(fields.spelling("n_embd", "hidden_size"))
    heads = fields.count(fields.spelling("n_head", "num_attention_heads"))
    return TransformerConfig(
        n_layers=fields.layers(fields.spelling("n_layer", "num_hidden_layers")),
        n_heads=heads,
        d_model=width,
        d_head=width_of_heads(fields, width, heads),
        d_mlp=fields.count("n_inner", 4 * width),
        d_vocab=fields.count("vocab_size"),
        n_ctx=fields.count(
            fields.spelling("n_positions", "max_position_embeddings", "n_ctx"), 1024
        ),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        activation=fields.choice("activation_function", ACTIVATIONS, "gelu_new"),
        tied=fields.flag("tie_word_embeddings", True),
        query_scale=None if fields.flag("scale_attn_weights", True) else 1.0,
    )


def width_of_heads(fields: Fields, width: int, heads: int) -> int:
    """The width of a head where heads share the stream's width; refuses any other."""
    if width % heads:
        raise HarnessError(f"{fields.path}: a width of {width} is not divisible by {heads} heads")
    fields.agree("head_dim", width // heads, "the width over the number of heads")
    return width // heads


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.T if tensor.ndim == 2 else tensor


def _transposed_shape(shape: Shape) -> Shape:
    return shape[::-1] if len(shape) == 2 else same_shape(shape)


_LINEAR = Change(_transposed, _transposed_shape)


def _queries_divided(tensor: Tensor, by: int) -> Tensor:
    """q, k, v maps [in, 3·out] or biases [3·out], as rows, the queries divided."""
    rows = _transposed(tensor).double()
    rows[: len(rows) // 3] /= by
    return rows
