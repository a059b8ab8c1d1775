"""Checkpoints of `transformers` by their `model_type`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from harness.models.loading.fields import Fields
from harness.models.loading.gemma import gemma, gemma2, gemma3
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
    "gemma3": gemma3,
    "gemma3_text": gemma3,
}


def huggingface(fields: Fields, tensors: Collection[str]) -> Translation:
    """The translation of a model; `HarnessError` for a family or variant that is not supported."""
    fields.refuse("quantization_config", (), "quantised weights are not read")
    return fields.choice("model_type", FAMILIES)(fields, tensors)
