"""Gemma 1, 2 and 3 (text): scaled embeddings, norms that multiply by 1 + w, then soft caps.

Of Gemma 3 with vision the language model is loaded and the rest left out.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from harness.errors import HarnessError
from harness.models.loading.fields import ACTIVATIONS, HARMLESS, Fields
from harness.models.loading.llama import IGNORED, config_of, sliding, translate
from harness.models.loading.rope import rotary_by_kind
from harness.models.loading.translation import Change, Translation, same_shape

_VISION = (
    "vision_config",
    "mm_tokens_per_image",
    "boi_token_index",
    "eoi_token_index",
    "image_token_index",
)
"""Fields of the part that sees, which is left out."""
VISION = r"(.*\.)?(vision_tower|multi_modal_projector)\..*"
_GEMMA_3 = {
    "vocab_size": 262_208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131_072,
}
"""Sizes that published files leave out because they are the defaults of `transformers`."""


def gemma(fields: Fields, tensors: Collection[str]) -> Translation:
    """Gemma 1, whose first files write `gelu` for the tanh approximation."""
    # `hidden_activation` stands in some files and is not read by `transformers`.
    legacy = {**ACTIVATIONS, "gelu": "gelu_tanh"}
    activation = fields.choice("hidden_act", legacy, "gelu_pytorch_tanh")
    _same_activation(fields, "hidden_activation", activation)
    config = config_of(fields, 8192, activation=activation, **_shared(fields))
    return translate(config, tensors, one_more)


def gemma2(fields: Fields, tensors: Collection[str]) -> Translation:
    """Gemma 2: every other layer has a window; soft caps on scores and logits."""
    kinds = fields.words("layer_types")
    layers = sliding(_pattern(fields, 2) if kinds is None else kinds, fields)
    window = _window(fields, layers)
    fields.agree("sliding_window_size", window, "sliding_window")
    caps = {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0}
    final, scores = (_cap(fields, name, default) for name, default in caps.items())
    config = config_of(
        fields,
        8192,
        window=window,
        window_layers=layers,
        logit_softcap=final,
        attention_softcap=scores,
        **_shared(fields),
        **_later(fields),
    )
    return translate(config, tensors, one_more)


def gemma3(fields: Fields, tensors: Collection[str]) -> Translation:
    """The language model of Gemma 3: a QK norm, and another rotary base in local layers."""
    fields.ignore(["attn_logit_softcapping", "_sliding_window_pattern"])  # `transformers` does so
    fields = replace(fields, data={**_GEMMA_3, **fields.data})
    every, kinds = fields.count("sliding_window_pattern", 6), fields.words("layer_types")
    layers = sliding(_pattern(fields, every) if kinds is None else kinds, fields)
    n_ctx = fields.count("max_position_embeddings")
    config = config_of(
        fields,
        n_ctx,
        window=_window(fields, layers),
        window_layers=layers,
        rotary=rotary_by_kind(fields, n_ctx, "full_attention", "rope_theta", 1_000_000.0),
        window_rotary=rotary_by_kind(
            fields, n_ctx, "sliding_attention", "rope_local_base_freq", 10_000.0
        ),
        qk_norm=True,
        logit_softcap=_cap(fields, "final_logit_softcapping", None),
        **_shared(fields),
        **_later(fields),
    )
    return translate(config, tensors, one_more, f"{IGNORED}|{VISION}")


def gemma3_with_vision(fields: Fields, tensors: Collection[str]) -> Translation:
    """The language model of a Gemma 3 with vision, whose fields are those of `text_config`."""
    fields.ignore(_VISION)
    text = fields.nested("text_config")
    text.ignore(HARMLESS)
    text.refuse("model_type", ("gemma3_text",), "only the text model of Gemma 3 is read")
    tied = fields.flag("tie_word_embeddings", True)
    if text.flag("tie_word_embeddings", True) is not tied:
        raise HarnessError(
            f"{fields.path}: tie_word_embeddings is not the same in text_config and beside it"
        )
    return gemma3(text, tensors)


one_more = Change(lambda weight: weight.double() + 1, same_shape)
"""1 + w in double precision, since 16 bits would round w away."""


def _shared(fields: Fields) -> dict[str, Any]:
    """What all Gemmas have beside a Llama's shape."""
    fields.refuse("use_bidirectional_attention", (False,), "only causal attention is supported")
    bias = fields.flag("attention_bias", False)
    return {
        "d_head": fields.count("head_dim", 256),
        "tied": fields.flag("tie_word_embeddings", True),
        "qkv_bias": bias,
        "out_bias": bias,
        "embedding_scale": math.sqrt(fields.count("hidden_size")),
    }


def _later(fields: Fields) -> dict[str, Any]:
    """What Gemma 2 and 3 have beside Gemma 1."""
    # `hidden_act` stands in some files and is not read by `transformers`.
    activation = fields.choice("hidden_activation", ACTIVATIONS, "gelu_pytorch_tanh")
    _same_activation(fields, "hidden_act", activation)
    return {
        "activation": activation,
        "post_norms": True,
        "query_scale": fields.number("query_pre_attn_scalar", 256, positive=True) ** -0.5,
    }


def _same_activation(fields: Fields, name: str, activation: str) -> None:
    if fields.has(name) and fields.choice(name, ACTIVATIONS) != activation:
        raise HarnessError(
            f"{fields.path}: hidden_act and hidden_activation differ; make them agree, or leave "
            "one out"
        )


def _cap(fields: Fields, name: str, default: float | None) -> float | None:
    """A soft cap; a null in the file means that there is none."""
    if fields.is_null(name):
        return None
    if default is None and not fields.has(name):
        return None
    return fields.number(name, default, positive=True)


def _window(fields: Fields, layers: tuple[int, ...]) -> int | None:
    """The window of these layers; `HarnessError` if it is null and there are some."""
    if fields.is_null("sliding_window"):
        if layers:
            raise HarnessError(f"{fields.path}: sliding_window is null, and layers need one")
        return None
    return fields.count("sliding_window", 4096)


def _pattern(fields: Fields, every: int) -> tuple[str, ...]:
    """Kinds of layers: every `every`-th has full attention, the others a window."""
    kinds = {True: "sliding_attention", False: "full_attention"}
    return tuple(kinds[bool((i + 1) % every)] for i in range(fields.layers("num_hidden_layers")))
