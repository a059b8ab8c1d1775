"""Gemma 1, 2 and 3 (text): scaled embeddings, norms that multiply by 1 + w, then soft caps.

Of Gemma 3 with vision the language model is loaded and the rest left out.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from torch import Tensor

from harness.models.config import Rotary
from harness.models.loading.fields import ACTIVATIONS, Fields
from harness.models.loading.llama import IGNORED, config_of, sliding, translate
from harness.models.loading.rope import parameters, rotary_of
from harness.models.loading.translation import Translation

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
    config = config_of(
        fields,
        activation="gelu_tanh" if fields.data.get("hidden_act") == "gelu" else _activation(fields),
        **_shared(fields),
    )
    return translate(config, tensors, one_more)


def gemma2(fields: Fields, tensors: Collection[str]) -> Translation:
    """Gemma 2: every other layer has a window; soft caps on scores and logits."""
    kinds = fields.words("layer_types") or _pattern(fields, 2)
    caps = {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0}
    final, scores = (_cap(fields, name, default) for name, default in caps.items())
    config = config_of(
        fields,
        window=fields.count("sliding_window", 4096),
        window_layers=sliding(kinds, fields),
        logit_softcap=final,
        attention_softcap=scores,
        **_shared(fields),
        **_later(fields),
    )
    return translate(config, tensors, one_more)


def gemma3(fields: Fields, tensors: Collection[str]) -> Translation:
    """The language model of Gemma 3: a QK norm, and another rotary base in local layers."""
    if fields.has("text_config"):
        fields = fields.nested("text_config")
    fields = replace(fields, data={**_GEMMA_3, **fields.data})
    kinds = fields.words("layer_types") or _pattern(
        fields, fields.count("sliding_window_pattern", 6)
    )
    d_head, base = fields.count("head_dim", 256), fields.number("rope_theta", 1_000_000.0)
    config = config_of(
        fields,
        window=fields.count("sliding_window", 4096),
        window_layers=sliding(kinds, fields),
        rotary=rotary_of(fields, d_head, part="full_attention", base=base),
        window_rotary=_local_rotary(fields, d_head),
        qk_norm=True,
        logit_softcap=_cap(fields, "final_logit_softcapping", None),
        # `transformers` ignores attn_logit_softcapping of Gemma 3.
        **_shared(fields),
        **_later(fields),
    )
    return translate(config, tensors, one_more, f"{IGNORED}|{VISION}")


def one_more(weight: Tensor) -> Tensor:
    """1 + w in double precision, since 16 bits would round w away."""
    return weight.double() + 1


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
    return {
        "activation": _activation(fields),
        "post_norms": True,
        "query_scale": fields.number("query_pre_attn_scalar", 256) ** -0.5,
    }


def _activation(fields: Fields) -> Any:
    name = "hidden_activation" if fields.has("hidden_activation") else "hidden_act"
    return fields.choice(name, ACTIVATIONS, "gelu_pytorch_tanh")


def _cap(fields: Fields, name: str, default: float | None) -> float | None:
    """A soft cap; a null in the file means that there is none."""
    if name in fields.data:
        default = None
    return fields.number(name) if fields.has(name) else default


def _pattern(fields: Fields, every: int) -> tuple[str, ...]:
    """Kinds of layers: every `every`-th has full attention, the others a window."""
    kinds = {True: "sliding_attention", False: "full_attention"}
    return tuple(kinds[bool((i + 1) % every)] for i in range(fields.count("num_hidden_layers")))


def _local_rotary(fields: Fields, d_head: int) -> Rotary:
    base = fields.number("rope_local_base_freq", 10_000.0)
    if parameters(fields).has("sliding_attention"):
        return rotary_of(fields, d_head, part="sliding_attention", base=base)
    # The one scaling of the old form applies to layers without a window.
    plain = replace(fields, data={**fields.data, "rope_parameters": None, "rope_scaling": None})
    return rotary_of(plain, d_head, base=base)
