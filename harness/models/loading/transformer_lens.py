"""State dicts in TransformerLens' names and layouts: W_Q [H, D, K], W_O [H, K, D], W_in [D, M].

The folder's `config.json` holds the fields of the `HookedTransformerConfig` as `to_dict` gives
them (those without a JSON form may be left out). Norms folded into the weights (`LNPre`,
`RMSPre`) are norms with weight one; embeddings are already scaled and Gemma's norms already 1 + w.
With `attn_only` layers have no MLP, whatever other fields say of one. `d_vocab_out`: a model whose
outputs are not its tokens, such as the classes of a classifier.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal

from harness.models.config import Rotary, TransformerConfig
from harness.models.loading.fields import ACTIVATIONS, Fields
from harness.models.loading.translation import (
    Change,
    TensorSource,
    Translation,
    flattened,
    transposed,
)
from harness.models.shapes import Shape

IGNORED = r"blocks\.\d+\.attn\.(mask|IGNORE|rotary_sin|rotary_cos)"

NormKind = Literal["layernorm", "rmsnorm", "none"]
_NORMS: Mapping[str, NormKind] = {
    "LN": "layernorm",
    "LNPre": "layernorm",
    "RMS": "rmsnorm",
    "RMSPre": "rmsnorm",
}
_REFUSED = {
    "use_NTK_by_parts_rope": "this scaling of rotary positions is not supported",
    "use_yarn_rope": "this scaling of rotary positions is not supported",
    "rotary_adjacent_pairs": "rotary positions must pair the halves of a head",
    "scale_attn_by_inverse_layer_idx": "a scale of attention per layer is not supported",
    "use_normalization_before_and_after": "norms after a block are not read from this form",
    "post_embedding_ln": "a norm after the embedding is not supported",
    "use_local_attn": "windows are not read from this form",
    "final_rms": "a final norm of another kind than the others is not supported",
    "load_in_4bit": "quantised weights are not read",
}
_WORDS = """
    model_name act_fn d_mlp use_attn_result use_split_qkv_input use_hook_mlp_in use_attn_in
    use_hook_tokens ungroup_grouped_query_attention original_architecture from_checkpoint
    checkpoint_index checkpoint_label_type checkpoint_value tokenizer_name device n_devices
    init_mode weight_init_mode seed initializer_range init_weights n_params default_prepend_bos
    dtype tokenizer_prepends_bos trust_remote_code tie_word_embeddings decoder_start_token_id
    window_size attn_types rotary_base_local uses_rms_norm layer_norm_folding norm_topk_prob
    NTK_by_parts_low_freq_factor NTK_by_parts_high_freq_factor NTK_by_parts_factor
    NTK_original_ctx_len yarn_factor yarn_attention_factor yarn_beta_fast yarn_beta_slow
    yarn_original_max_position_embeddings
"""
_HARMLESS = frozenset(_WORDS.split())
"""Fields that change no logits, or only with others that are refused."""


def transformer_lens(fields: Fields, tensors: Collection[str]) -> Translation:
    """The translation of a state dict; `HarnessError` for what is not supported."""
    config = _config(fields, tensors)
    sources = {
        "embedding": TensorSource(("embed.W_E",)),
        "unembedding": TensorSource(("unembed.W_U",), _transposed),
    }
    if config.positions == "learned":
        sources["position_embedding"] = TensorSource(("pos_embed.W_pos",))
    if config.unembed_bias:
        sources["unembedding_bias"] = TensorSource(("unembed.b_U",))
    sources |= _norm("final_norm", "ln_final", config, tensors)
    for layer in range(config.n_layers):
        sources |= _layer(f"blocks.{layer}.", config, tensors)
    fields.ignore(_HARMLESS)
    fields.refuse_unread({"d_vocab_out": (-1, config.d_vocab), "rotary_scaling_factor": (1,)})
    zero = [f"blocks.{i}.mlp.b_{part}" for i in range(config.n_layers) for part in ("in", "out")]
    # A gated MLP of theirs adds b_in after the product; published ones hold zeros.
    return Translation(config, sources, IGNORED, zero=tuple(zero) if config.gated else ())


def _layer(
    block: str, config: TransformerConfig, tensors: Collection[str]
) -> dict[str, TensorSource]:
    sources: dict[str, TensorSource] = {}
    norms = [("attention_norm", "ln1"), ("mlp_norm", "ln2")]
    for ours, theirs in norms if config.has_mlp else norms[:1]:
        sources |= _norm(block + ours, block + theirs, config, tensors)
    if config.qk_norm:
        for ours, theirs in (("query_norm", "q_norm"), ("key_norm", "k_norm")):
            sources[f"{block}{ours}.weight"] = TensorSource((f"{block}attn.{theirs}.w",))
    shared = "_" if f"{block}attn._W_K" in tensors else ""  # marks shared keys and values
    into = ("gate", "in") if config.gated else ("in",)

    def qkv(letter: str) -> tuple[str, ...]:
        names = (f"{letter}_Q", f"{shared}{letter}_K", f"{shared}{letter}_V")
        return tuple(f"{block}attn.{name}" for name in names)

    sources[f"{block}qkv_map.weight"] = TensorSource(qkv("W"), _head_rows)
    sources[f"{block}out_map.weight"] = TensorSource((f"{block}attn.W_O",), _head_columns)
    if config.has_mlp:
        sources[f"{block}mlp_in.weight"] = TensorSource(
            tuple(f"{block}mlp.W_{one}" for one in into), _transposed
        )
        sources[f"{block}mlp_out.weight"] = TensorSource((f"{block}mlp.W_out",), _transposed)
    biases = {
        "qkv_map": (config.has_bias("qkv"), qkv("b")),
        "out_map": (config.has_bias("out"), (f"{block}attn.b_O",)),
        "mlp_in": (config.has_bias("mlp"), (f"{block}mlp.b_in",)),
        "mlp_out": (config.has_bias("mlp"), (f"{block}mlp.b_out",)),
    }
    for name, (there, names) in biases.items():
        if there:
            sources[f"{block}{name}.bias"] = TensorSource(names, flattened)
    return sources


def _norm(
    ours: str, theirs: str, config: TransformerConfig, tensors: Collection[str]
) -> dict[str, TensorSource]:
    """Weight and bias of a norm; those of a folded norm are one and zero."""
    if config.norm == "none":
        return {}
    folded = not _has_norms(tensors)
    sources = {f"{ours}.weight": TensorSource(() if folded else (f"{theirs}.w",), constant=1.0)}
    if config.norm == "layernorm":
        sources[f"{ours}.bias"] = TensorSource(() if folded else (f"{theirs}.b",), constant=0.0)
    return sources


def _has_norms(tensors: Collection[str]) -> bool:
    """Whether norms have weights: then all of them have, and else they are folded."""
    return "ln_final.w" in tensors or "blocks.0.ln1.w" in tensors


def _config(fields: Fields, tensors: Collection[str]) -> TransformerConfig:
    for name, why in _REFUSED.items():
        fields.refuse(name, (False,), why)
    heads, d_head = fields.count("n_heads"), fields.count("d_head")
    alone = fields.flag("attn_only", False)
    gated = fields.flag("gated_mlp", False) and not alone
    d_vocab = fields.count("d_vocab")
    norm: NormKind = "none"
    if not fields.is_null("normalization_type"):
        norm = fields.choice("normalization_type", _NORMS)
        if _has_norms(tensors) and fields.data["normalization_type"].endswith("Pre"):
            fields.refuse("normalization_type", (), "the norms have weights, which these have not")
    positions = fields.choice(
        "positional_embedding_type", {"standard": "learned", "rotary": "rotary"}, "standard"
    )
    return TransformerConfig(
        n_layers=fields.layers("n_layers"),
        n_heads=heads,
        d_model=fields.count("d_model"),
        d_head=d_head,
        d_mlp=0 if alone else fields.count("d_mlp", 4 * fields.count("d_model")),
        d_vocab=d_vocab,
        d_vocab_out=_outputs(fields, d_vocab),
        n_ctx=fields.count("n_ctx"),
        norm=norm,
        norm_eps=fields.number("eps", 1e-5),
        activation="gelu" if alone else fields.choice("act_fn", ACTIVATIONS),
        unembed_bias="unembed.b_U" in tensors,
        causal=fields.choice("attention_dir", {"causal": True, "bidirectional": False}, "causal"),
        n_key_value_heads=fields.count("n_key_value_heads", heads),
        parallel=fields.flag("parallel_attn_mlp", False) and not alone,
        gated=gated,
        qkv_bias="blocks.0.attn.b_Q" in tensors,
        out_bias="blocks.0.attn.b_O" in tensors,
        mlp_bias=not gated and not alone and "blocks.0.mlp.b_in" in tensors,
        qk_norm=fields.flag("use_qk_norm", False),
        query_scale=_query_scale(fields),
        attention_softcap=_cap(fields, "attn_scores_soft_cap"),
        logit_softcap=_cap(fields, "output_logits_soft_cap"),
        **_positions(fields, positions, d_head),
    )


def _positions(fields: Fields, kind: str, d_head: int) -> dict[str, Any]:
    if kind == "learned":
        fields.ignore(["rotary_base", "rotary_dim", "rotary_scaling_factor"])
        return {"positions": kind}
    base, n = fields.number("rotary_base", 10_000.0), fields.count("rotary_dim", d_head)
    if n > d_head:
        fields.refuse("rotary_dim", (), f"a head has {d_head} coordinates")
    return {"positions": kind, "rotary": Rotary(base=base, n_rotated=n if n < d_head else None)}


def _outputs(fields: Fields, d_vocab: int) -> int | None:
    """d_vocab_out where it says something else than d_vocab; theirs may be -1, not said."""
    if not fields.has("d_vocab_out") or fields.data["d_vocab_out"] == -1:
        return None
    outputs = fields.count("d_vocab_out")
    return None if outputs == d_vocab else outputs


def _query_scale(fields: Fields) -> float | None:
    """1 / attn_scale; a negative attn_scale stands for the usual √d_head."""
    used = fields.flag("use_attn_scale", True)
    scale = fields.number("attn_scale", -1.0)
    if scale != -1 and scale <= 0:
        fields.refuse("attn_scale", (), "scores are divided by it")
    if not used:
        return 1.0
    return 1 / scale if scale > 0 else None


def _cap(fields: Fields, name: str) -> float | None:
    """A soft cap, or None: theirs is then not positive."""
    cap = fields.number(name, -1.0)
    return cap if cap > 0 else None


def _head_rows_shape(shape: Shape) -> Shape | None:
    return (shape[0] * shape[2], shape[1]) if len(shape) == 3 else None


def _head_columns_shape(shape: Shape) -> Shape | None:
    return (shape[2], shape[0] * shape[1]) if len(shape) == 3 else None


_transposed = transposed
# [heads, D, K] to rows (head, K) of a map [·, D].
_head_rows = Change(lambda tensor: tensor.transpose(1, 2).flatten(0, 1), _head_rows_shape)
# [heads, K, D] to a map [D, heads·K].
_head_columns = Change(lambda tensor: tensor.flatten(0, 1).T, _head_columns_shape)
