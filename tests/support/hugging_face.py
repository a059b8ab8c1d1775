"""Small random models of `transformers`, one per family and variant, to load and compare with.

And the configurations of real models, for which `transformers` need not be there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.models.config import TransformerConfig
from harness.models.loading.fields import Fields
from harness.models.loading.huggingface import huggingface

LLAMA = {
    "vocab_size": 41,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
NEOX = {
    "vocab_size": 41,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GPT2 = {"vocab_size": 41, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 64}
GEMMA = {**LLAMA, "head_dim": 8}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 24,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24}
LINEAR = {"rope_type": "linear", "factor": 4.0}


def scaled(scaling: dict[str, Any], base: float = 10000.0, sizes: Any = LLAMA) -> dict[str, Any]:
    return {**sizes, "rope_parameters": {"rope_theta": base, **scaling}}


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", GPT2),
    "gpt2-untied": ("GPT2", {**GPT2, "tie_word_embeddings": False, "n_inner": 30}),
    "gpt2-relu": ("GPT2", {**GPT2, "activation_function": "relu", "scale_attn_weights": False}),
    "gpt2-by-layer": ("GPT2", {**GPT2, "scale_attn_by_inverse_layer_idx": True}),
    "pythia": ("GPTNeoX", NEOX),
    "neox-serial": ("GPTNeoX", {**NEOX, "use_parallel_residual": False}),
    "neox-no-bias": ("GPTNeoX", {**NEOX, "attention_bias": False, "tie_word_embeddings": True}),
    "neox-all-turns": (
        "GPTNeoX",
        {**NEOX, "rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 1.0}},
    ),
    "llama": ("Llama", LLAMA),
    "llama-ungrouped": ("Llama", {**LLAMA, "num_key_value_heads": 4}),
    "llama-one-group": ("Llama", {**LLAMA, "num_key_value_heads": 1, "head_dim": 10}),
    "llama-biases": ("Llama", {**LLAMA, "attention_bias": True, "mlp_bias": True}),
    "llama-tied": ("Llama", {**LLAMA, "tie_word_embeddings": True, "rms_norm_eps": 1e-2}),
    "codellama": ("Llama", scaled({"rope_type": "default"}, base=1e6)),
    "llama-linear": ("Llama", scaled(LINEAR)),
    "llama-dynamic": ("Llama", scaled({"rope_type": "dynamic", "factor": 2.0})),
    "llama3": ("Llama", scaled(LLAMA3, base=500000.0)),
    "llama-yarn": ("Llama", scaled({**YARN, "beta_fast": 8.0, "beta_slow": 0.5})),
    "llama-yarn-mscale": (
        "Llama",
        scaled({**YARN, "mscale": 0.7, "mscale_all_dim": 1.0, "truncate": False}, base=50.0),
    ),
    "mistral": ("Mistral", {**LLAMA, "sliding_window": None}),
    "mistral-window": ("Mistral", {**LLAMA, "sliding_window": 5, "head_dim": 8}),
    "qwen2": ("Qwen2", LLAMA),
    "qwen2-window": (
        "Qwen2",
        {**LLAMA, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "qwen2-yarn": ("Qwen2", scaled(YARN, base=1e6)),
    "qwen3": ("Qwen3", {**LLAMA, "head_dim": 8, "tie_word_embeddings": True}),
    "qwen3-bias": ("Qwen3", {**LLAMA, "head_dim": 8, "attention_bias": True}),
    "gemma": ("Gemma", {**GEMMA, "num_key_value_heads": 1}),
    "gemma2": ("Gemma2", {**GEMMA, "sliding_window": 5, "query_pre_attn_scalar": 6}),
    "gemma2-no-caps": (
        "Gemma2",
        {
            **GEMMA,
            "sliding_window": 64,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
        },
    ),
    "gemma2-tight-caps": (
        "Gemma2",
        {
            **GEMMA,
            "sliding_window": 3,
            "attn_logit_softcapping": 0.7,
            "final_logit_softcapping": 1.5,
        },
    ),
    "gemma3": (
        "Gemma3",
        {**GEMMA, "sliding_window": 4, "num_hidden_layers": 7, "attention_bias": True},
    ),
    "gemma3-linear": (
        "Gemma3",
        {
            **GEMMA,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_theta": 1e6, **LINEAR},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
            "final_logit_softcapping": 5.0,
        },
    ),
}
"""Name to family and configuration. Windows are shorter than the prompts of the tests."""


def random_theirs(name: str, seed: int = 0, **changes: Any) -> Any:
    """A model of `transformers` in which every parameter is random, biases and norms too."""
    import transformers

    family, sizes = MODELS[name]
    text = "Text" if family == "Gemma3" else ""
    config = getattr(transformers, f"{family}{text}Config")(
        **{**sizes, **changes}, attn_implementation="eager"
    )
    head = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    model = getattr(transformers, family + head)(config).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            if parameter.ndim < 2:
                parameter.add_(noise * 0.3)
            else:
                parameter.copy_(noise * 1.5 / parameter.shape[-1] ** 0.5)
    return model.requires_grad_(False)


def saved(name: str, folder: Path, **how: Any) -> Any:
    """Such a model, saved into a folder."""
    model = random_theirs(name)
    model.save_pretrained(folder, **how)
    return model


def config_json(folder: Path, model_type: str, **fields: Any) -> TransformerConfig:
    """The configuration of a real model, as its file says it; no weights are needed for it."""
    return huggingface(Fields({"model_type": model_type, **fields}, folder), ()).config
