"""Weight-sparse transformers as openai/circuit_sparsity saves them.

A model is `beeg_config.json` and `final_model.pt`, a state dict with all zeros written out. Fields
that are absent have the defaults of the authors' `GPTConfig`. A field that this reader does not
know is named in a warning and has no effect, as in their own reader: old files hold some that no
longer mean anything. Known fields whose values ask for another model are refused.

Their RMSNorm has the machine epsilon of the precision; here it is that of float32 in all. Their
code adds a table of positions to the embeddings in every model; one of zeros is no positions.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.loading.fields import Fields
from harness.models.loading.translation import TensorSource, Translation
from harness.models.loading.weight_sparse.pickled import pickled_state
from harness.spec.printable import quoted
from harness.spec.types import ActivationSparsity, SparseSite

if TYPE_CHECKING:
    from torch import Tensor

_EPSILON = 2.0**-23
_POSITIONS = "transformer.wpe.weight"
_MASKS = r"transformer\.h\.\d+\.attn\.bias"  # causal masks, no biases
_PLACES: Mapping[str, SparseSite] = {
    "attn_in": "a.in",
    "attn_q": "a.q",
    "attn_k": "a.k",
    "attn_v": "a.v",
    "attn_out": "a.out",
    "mlp_in": "m.in",
    "mlp_neuron": "m.hidden",
    "mlp_out": "m.out",
}
_DEFAULT_PLACES = "attn_in,attn_out,mlp_in,mlp_out"
_HARMLESS = """
    dropout debug_nans grad_checkpointing flash enable_sparse_kernels tokenizer_name
    learnable_bigram_table dropout_cat_pos_emb sinusoidal_cat_pos_emb
"""
_MAPS = {
    "qkv_map": "attn.c_attn",
    "out_map": "attn.c_proj",
    "mlp_in": "mlp.c_fc",
    "mlp_out": "mlp.c_proj",
}
_NORMS = {"attention_norm": "ln_1", "mlp_norm": "ln_2"}

_LOG = logging.getLogger("harness")


def circuit_sparsity(fields: Fields, weights: Path) -> Translation:
    """The translation of a model; `HarnessError` for a variant that is not supported."""
    tensors = pickled_state(weights)
    config = _config(fields, tensors)
    sources = {
        "embedding": TensorSource(("transformer.wte.weight",)),
        "final_norm.weight": TensorSource(("transformer.ln_f.weight",)),
    }
    if config.positions == "learned":
        sources["position_embedding"] = TensorSource((_POSITIONS,))
    if not config.tied:
        sources["unembedding"] = TensorSource(("lm_head.weight",))
    if config.unembed_bias:
        sources["unembedding_bias"] = TensorSource(("final_logits_bias",))
    if config.bigram_table:
        sources["bigram_table"] = TensorSource(("bigram_table",))
    norm_bias = config.norm == "layernorm" and config.bias
    if norm_bias:
        sources["final_norm.bias"] = TensorSource(("transformer.ln_f.bias",))
    for layer in range(config.n_layers):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        for name, one in _MAPS.items():
            sources[f"{ours}.{name}.weight"] = TensorSource((f"{theirs}.{one}.weight",))
            if config.has_bias("qkv"):  # all maps have one, or none
                sources[f"{ours}.{name}.bias"] = TensorSource((f"{theirs}.{one}.bias",))
        for name, one in _NORMS.items():
            sources[f"{ours}.{name}.weight"] = TensorSource((f"{theirs}.{one}.weight",))
            if norm_bias:
                sources[f"{ours}.{name}.bias"] = TensorSource((f"{theirs}.{one}.bias",))
        if config.attention_sink:
            sources[f"{ours}.sink_logit"] = TensorSource((f"{theirs}.attn.attn_imp.sink_logit",))
    repeated = {"lm_head.weight": "embedding"} if config.tied else {}
    zero = () if config.positions == "learned" else (_POSITIONS,)
    return Translation(config, sources, _MASKS, repeated, zero)


def _config(fields: Fields, tensors: Mapping[str, Tensor]) -> TransformerConfig:
    fields.refuse("use_tied_aux_matrix", (False, 0), "its auxiliary matrix is not supported")
    fields.refuse("residual_activation_type", ("identity",), "the stream is not rectified here")
    fields.refuse("d_pos_emb", (), "positions beside the inputs of blocks are not supported")
    width, heads = fields.count("d_model", 768), fields.count("n_head", 12)
    if not fields.has("d_head") and width % heads:
        raise HarnessError(f"{fields.path}: d_model {width} is not divisible by n_head {heads}")
    rms, bias = fields.flag("rms_norm", False), fields.flag("bias", True)
    norm_bias = fields.flag("ln_bias", True)
    config = TransformerConfig(
        n_layers=fields.count("n_layer", 12),
        n_heads=heads,
        d_model=width,
        d_head=fields.count("d_head", width // heads),
        d_mlp=fields.count(fields.spelling("d_mlp", "n_mlp"), 4 * width),
        d_vocab=fields.count("vocab_size", 50304),
        n_ctx=fields.count("block_size", 1024),
        norm="rmsnorm" if rms else "layernorm",
        norm_eps=_EPSILON if rms else 1e-5,
        positions="learned" if _has_positions(tensors) else "none",
        activation=fields.choice("activation_type", {"gelu": "gelu", "relu": "relu"}, "gelu"),
        bias=norm_bias if not rms else bias,
        qkv_bias=bias,
        out_bias=bias,
        mlp_bias=bias,
        unembed_bias="final_logits_bias" in tensors,
        tied=fields.flag("tied_unembed", True),
        attention_sink=fields.flag("sink", False),
        bigram_table=fields.flag("enable_bigram_table", False),
        activation_sparsity=_sparsity(fields),
    )
    fields.ignore(_HARMLESS.split())
    if unknown := fields.unread():
        names = ", ".join(quoted(name[:60]) for name in unknown[:8])
        _LOG.warning("%s: ignored, since this reader does not know it: %s", fields.path, names)
    return config


def _has_positions(tensors: Mapping[str, Tensor]) -> bool:
    return _POSITIONS in tensors and bool(tensors[_POSITIONS].any())


def _sparsity(fields: Fields) -> ActivationSparsity | None:
    keep = fields.number("afrac", 1.0, positive=True)
    places = fields.text("afrac_loctypes", _DEFAULT_PLACES)
    if keep == 1:
        return None
    names = [name.strip() for name in places.split(",") if name.strip()]
    for name in names:
        if name not in _PLACES:
            raise HarnessError(
                f"{fields.path}: afrac_loctypes names {quoted(name[:60])}, and AbsTopK is "
                f"supported at {', '.join(_PLACES)} alone"
            )
    at = tuple(dict.fromkeys(_PLACES[name] for name in names))
    return ActivationSparsity(keep=keep, at=at) if at else None
