"""Shapes of a transformer's parameters by name, from its configuration alone. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator

from harness.models.config import TransformerConfig

Shape = tuple[int, ...]


def parameter_shapes(config: TransformerConfig) -> dict[str, Shape]:
    """The shape of every parameter of `harness.models.transformer.Transformer`."""
    shapes: dict[str, Shape] = {"embedding": (config.d_vocab, config.d_model)}
    if config.positions == "learned":
        shapes["position_embedding"] = (config.n_ctx, config.d_model)
    if not config.tied:
        shapes["unembedding"] = (config.n_outputs, config.d_model)
    if config.unembed_bias:
        shapes["unembedding_bias"] = (config.n_outputs,)
    if config.bigram_table:
        shapes["bigram_table"] = (config.d_vocab, config.n_outputs)
    block = {**dict(_linears(config)), **dict(_norms(config))}
    if config.attention_sink:
        block["sink_logit"] = (config.n_heads,)
    for layer in range(config.n_layers):
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in block.items()}
    return shapes | dict(_norm("final_norm", config, config.d_model))


def _linears(config: TransformerConfig) -> Iterator[tuple[str, Shape]]:
    """Weights [out, in] and biases [out] of a block's linear maps."""
    hidden = 2 * config.d_mlp if config.gated else config.d_mlp
    maps = {
        "qkv_map": (config.n_read_maps * config.d_head, config.d_model, config.has_bias("qkv")),
        "out_map": (config.d_model, config.n_heads * config.d_head, config.has_bias("out")),
    }
    if config.has_mlp:
        maps["mlp_in"] = hidden, config.d_model, config.has_bias("mlp")
        maps["mlp_out"] = config.d_model, config.d_mlp, config.has_bias("mlp")
    for name, (out, into, biased) in maps.items():
        yield f"{name}.weight", (out, into)
        if biased:
            yield f"{name}.bias", (out,)


def _norms(config: TransformerConfig) -> Iterator[tuple[str, Shape]]:
    widths = {"attention_norm": config.d_model}
    if config.has_mlp:
        widths["mlp_norm"] = config.d_model
    if config.qk_norm:
        widths |= {"query_norm": config.d_head, "key_norm": config.d_head}
    if config.post_norms:
        widths |= {"attention_post_norm": config.d_model, "mlp_post_norm": config.d_model}
    for name, width in widths.items():
        yield from _norm(name, config, width)


def _norm(name: str, config: TransformerConfig, width: int) -> Iterator[tuple[str, Shape]]:
    if config.norm == "none":
        return
    yield f"{name}.weight", (width,)
    if config.norm == "layernorm" and config.bias:
        yield f"{name}.bias", (width,)
