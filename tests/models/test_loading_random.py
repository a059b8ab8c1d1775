"""Random configurations of every family: the logits of `transformers`, or a refusal.

Configurations are written as files are found: sizes with and without defaults, old and new
spellings, both at once, at times with values that differ, and fields of other families.
"""

from __future__ import annotations

import copy
import json
import logging
from collections import Counter
from random import Random

import pytest
import torch

from harness.errors import HarnessError
from harness.models.checkpoint import load_model

transformers = pytest.importorskip("transformers")

FAMILIES = (
    *("gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3"),
    *("gemma", "gemma2", "gemma3_text"),
)
ACTIVATIONS = (
    *("gelu", "gelu_new", "gelu_python", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu"),
    *("relu", "silu", "swish", "tanh", "mish", "gelu_10"),
)
TOKENS = torch.randint(13, (2, 24), generator=torch.Generator().manual_seed(3))


class Draw(Random):
    """Random values of fields; most fields are left out."""

    def some(self, share, **fields):
        return {name: make() for name, make in fields.items() if self.random() < share}

    def flag(self):
        return self.random() < 0.5

    def scaling(self):
        original = {"original_max_position_embeddings": self.choice([8, 16, 64])}
        bands = {"low_freq_factor": self.choice([1, 0.5]), "high_freq_factor": 4.0}
        extra = self.some(
            0.2,
            beta_fast=lambda: self.choice([4, 16.0]),
            attention_factor=lambda: 1.3,
            mscale=lambda: 0.7,
            mscale_all_dim=lambda: 1.2,
            truncate=self.flag,
        )
        factor = {"factor": self.choice([2, 4.0, 1])}
        kind, fields = self.choice(
            [
                ("default", {}),
                ("linear", factor),
                ("dynamic", factor),
                ("llama3", factor | bands | original),
                ("yarn", factor | original | extra),
                ("yarn", factor | extra),
                ("longrope", {"short_factor": [2.0] * 4, "long_factor": [4.0] * 4} | original),
            ]
        )
        name = self.choice(["rope_type", "rope_type", "rope_type", "type"])
        return {name: kind, **fields} | self.some(
            0.15, partial_rotary_factor=lambda: self.choice([0.5, 1.0]), low_freq_factor=lambda: 1
        )

    def rotary(self):
        base = {"rope_theta": self.choice([100.0, 10000, 5e5])}
        fields = self.some(0.4, rope_theta=lambda: self.choice([100.0, 10000, 5e5]))
        if self.flag():
            fields["rope_parameters"] = self.scaling() | (base if self.random() < 0.8 else {})
        if self.random() < 0.35:
            fields["rope_scaling"] = self.choice([None, {}, self.scaling()])
        return fields | self.some(
            0.06,
            partial_rotary_factor=lambda: self.choice([0.5, 1.0]),
            original_max_position_embeddings=lambda: self.choice([16, 64]),
        )


def gpt2(draw):
    sizes = {"n_embd": 24, "n_layer": 2, "n_head": 3, "vocab_size": 13}
    return sizes | draw.some(
        0.3,
        n_positions=lambda: draw.choice([24, 64]),
        n_ctx=lambda: draw.choice([24, 64]),
        n_inner=lambda: draw.choice([None, 20]),
        hidden_size=lambda: draw.choice([24, 24, 48]),
        num_hidden_layers=lambda: draw.choice([2, 2, 1]),
        activation_function=lambda: draw.choice(ACTIVATIONS),
        scale_attn_weights=draw.flag,
        scale_attn_by_inverse_layer_idx=draw.flag,
        reorder_and_upcast_attn=draw.flag,
        tie_word_embeddings=draw.flag,
        layer_norm_epsilon=lambda: draw.choice([1e-5, 1e-2, 0]),
        head_dim=lambda: draw.choice([8, 8, 4]),
    )


def gpt_neox(draw):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 13}
    old = draw.some(
        0.3,
        rotary_pct=lambda: draw.choice([0.25, 0.5, 1.0]),
        rotary_emb_base=lambda: draw.choice([10000, 300.0]),
        hidden_act=lambda: draw.choice(ACTIVATIONS),
        use_parallel_residual=draw.flag,
        attention_bias=draw.flag,
        tie_word_embeddings=draw.flag,
        max_position_embeddings=lambda: draw.choice([24, 64]),
        layer_norm_eps=lambda: 1e-2,
        head_dim=lambda: draw.choice([16, 8]),
    )
    return sizes | {"intermediate_size": 20} | (draw.rotary() if draw.flag() else {}) | old


def llama(draw):
    sizes = {
        "hidden_size": 24,
        "intermediate_size": 20,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": draw.choice([1, 2, 4]),
        "vocab_size": 13,
        "head_dim": 8,
    }
    return (
        sizes
        | draw.rotary()
        | draw.some(
            0.25,
            hidden_act=lambda: draw.choice(ACTIVATIONS),
            max_position_embeddings=lambda: draw.choice([24, 64]),
            rms_norm_eps=lambda: draw.choice([1e-5, 1e-2]),
            tie_word_embeddings=draw.flag,
            attention_bias=draw.flag,
            mlp_bias=draw.flag,
            pretraining_tp=lambda: draw.choice([1, 2]),
            use_sliding_window=draw.flag,
            sliding_window=lambda: draw.choice([None, 5, 64]),
        )
    )


def kinds(draw):
    return [draw.choice(["sliding_attention", "full_attention"]) for _ in range(3)]


def qwen(draw):
    return llama(draw) | draw.some(
        0.3,
        use_sliding_window=draw.flag,
        sliding_window=lambda: draw.choice([None, 5, 64]),
        max_window_layers=lambda: draw.choice([0, 1, 2]),
        layer_types=lambda: kinds(draw),
    )


def gemma(draw):
    return llama(draw) | draw.some(
        0.3,
        hidden_activation=lambda: draw.choice(["gelu_pytorch_tanh", *ACTIVATIONS]),
        hidden_act=lambda: draw.choice(["gelu_pytorch_tanh", "gelu", "relu"]),
        use_bidirectional_attention=lambda: draw.choice([None, False, True]),
    )


def gemma2(draw):
    return gemma(draw) | draw.some(
        0.3,
        query_pre_attn_scalar=lambda: draw.choice([4, 256]),
        sliding_window=lambda: draw.choice([5, 64, None]),
        layer_types=lambda: kinds(draw),
        final_logit_softcapping=lambda: draw.choice([None, 2.0]),
        attn_logit_softcapping=lambda: draw.choice([None, 2.0]),
    )


def gemma3(draw):
    fields = gemma2(draw)
    if draw.flag():
        by_kind = {kind: draw.scaling() for kind in set(kinds(draw))}
        fields["rope_parameters"] = by_kind
    return fields | draw.some(
        0.3,
        sliding_window_pattern=lambda: draw.choice([2, 3]),
        rope_local_base_freq=lambda: draw.choice([50.0, 10000.0]),
    )


MAKERS = {
    "gpt2": gpt2,
    "gpt_neox": gpt_neox,
    "llama": llama,
    "mistral": llama,
    "qwen2": qwen,
    "qwen3": qwen,
    "gemma": gemma,
    "gemma2": gemma2,
    "gemma3_text": gemma3,
}


def theirs(config):
    """The model that `transformers` makes of the file, every weight random; None if it refuses."""
    try:
        read = transformers.AutoConfig.for_model(**copy.deepcopy(config))
        read._attn_implementation = "eager"
        model = transformers.AutoModelForCausalLM.from_config(read).eval()
    except Exception:  # whatever it raises, there is nothing to compare with
        return None
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=draw)
            scale = 0.3 if parameter.ndim < 2 else 1.5 / parameter.shape[-1] ** 0.5
            parameter.copy_(noise * scale)
    return model


def outcome(config, folder):
    """`refused`, `equal`, `different`, or why `transformers` has nothing to compare with."""
    model = theirs(config)
    try:
        wanted = model(TOKENS).logits.detach() if model else None
    except Exception:
        wanted = None
    if model is not None:
        model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    try:
        found = load_model(folder)
    except HarnessError as error:
        return "refused", str(error)
    if wanted is None:
        return "theirs fails", ""
    with torch.no_grad():
        difference = (found(TOKENS) - wanted).abs().max().item()
    return ("equal" if difference <= 1e-4 else "different"), f"{difference}"


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("count", [8, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", FAMILIES)
def test_random_configurations_are_equal_or_refused(family, count, tmp_path):
    """Slow: 40 s for all families."""
    draw, seen = Draw(family), Counter()
    for _ in range(count):
        config = {"model_type": family, **MAKERS[family](draw)}
        what, text = outcome(config, tmp_path)
        seen[what] += 1
        assert what != "different", (text, config)
    assert seen["equal"] >= count / 8, seen
    assert seen["refused"] >= count / 8, seen
