"""Checkpoints of `transformers` by their `model_type`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from harness.models.loading.fields import HARMLESS, Fields
from harness.models.loading.gemma import gemma, gemma2, gemma3, gemma3_with_vision
from harness.models.loading.gpt2 import gpt2
from harness.models.loading.gpt_neox import gpt_neox
from harness.models.loading.llama import llama, mistral, qwen2, qwen3
from harness.models.loading.translation import Translation

FAMILIES: Mapping[str, Callable[[Fields, Collection[str]], Translation]] = {
    "gpt2": gpt2,
    "gpt_neox": gpt_neox,
    "llama": llama,
    "mistral": mistral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3": gemma3_with_vision,
    "gemma3_text": gemma3,
}


_FINE: Mapping[str, tuple[Any, ...]] = {
    "quantization_config": (),
    "auto_map": (),
    "per_layer_config": (),
    "is_encoder_decoder": (False,),
    "tie_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "pruned_heads": ({},),
    "rope_interleaved": (False,),
    "is_llama_config": (True,),
    "use_mrope": (False,),
    "use_sliding_window": (False,),
}
"""Fields of published files, with the values that mean what is loaded where no family reads them.

Without these, quantised weights, code of the repository's own, and layers unlike the others would
be taken for a plain model.
"""


def huggingface(fields: Fields, tensors: Collection[str]) -> Translation:
    """The translation of a model; `HarnessError` for a family or variant that is not supported.

    A field that the family does not read is refused by name, unless it is known to be harmless.
    """
    fields.refuse("quantization_config", (), "quantised weights are not read")
    translation = fields.choice("model_type", FAMILIES)(fields, tensors)
    fields.ignore(HARMLESS)
    fields.refuse_unread(_FINE)
    return translation
