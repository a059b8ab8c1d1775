"""The fused forward against an independent slow one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support.slow_reference import ARCHITECTURES, SlowModel, small_model

from harness.errors import HarnessError
from harness.models.config import Rotary, TransformerConfig
from harness.models.transformer import random_model
from harness.spec.types import Architecture


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_forward_is_the_slow_forward(name, random_batch):
    model, batch = small_model(name), random_batch()
    everything = torch.ones(99, 99, dtype=torch.float64)
    wanted = SlowModel(model).writers(batch.clean, everything, None)[1]
    torch.testing.assert_close(model(batch.clean), wanted, rtol=1e-11, atol=1e-11)


def test_padding_changes_nothing_on_the_left():
    """Causal models ignore what is right of a token; others are told the lengths."""
    for name in ("gpt2-like", "no-norm-bidirectional"):
        model = small_model(name)
        short = torch.tensor([[1, 2, 3]])
        padded = torch.tensor([[1, 2, 3, 0, 0], [5, 4, 3, 2, 1]])
        found = model(padded, torch.tensor([3, 5]))[0, :3]
        torch.testing.assert_close(found, model(short)[0], rtol=1e-11, atol=1e-11)


def test_equal_seeds_give_equal_weights_and_others_do_not():
    config = small_model("gpt2-like").config
    one, same, other = (random_model(config, seed) for seed in (1, 1, 2))
    for name, weight in one.named_parameters():
        assert torch.equal(weight, dict(same.named_parameters())[name])
    assert not torch.equal(one.embedding, other.embedding)


def test_random_weights_are_drawn_in_the_precision_asked_for():
    """Every weight is set, and its spread is the same whatever the precision."""
    config = small_model("gpt2-like").config
    single, half = (random_model(config, 0, dtype=d) for d in (torch.float32, torch.bfloat16))
    for (name, weight), other in zip(single.named_parameters(), half.parameters(), strict=True):
        assert other.dtype == torch.bfloat16
        assert torch.isfinite(other).all()
        if weight.ndim < 2:
            assert torch.equal(weight, other.float()), name
        else:
            assert float(other.detach().float().std()) == pytest.approx(
                float(weight.detach().std()), rel=0.5
            ), name


def test_derived_sizes():
    shape = Architecture(n_layers=2, n_heads=4, d_model=32)
    config = TransformerConfig.from_architecture(shape, d_vocab=10, longest=7)
    assert (config.d_head, config.d_mlp, config.n_ctx) == (8, 128, 7)
    shape = Architecture(
        n_layers=1, n_heads=4, d_model=32, n_key_value_heads=2, gated=True, parallel=True,
        positions="rotary", rotary_base=77.0, activation="silu",
    )  # fmt: skip
    config = TransformerConfig.from_architecture(shape, d_vocab=10, longest=7)
    assert (config.n_groups, config.gated, config.parallel) == (2, True, True)
    assert (config.rotary, config.activation) == (Rotary(base=77.0), "silu")
    uneven = replace(shape, n_key_value_heads=3)
    with pytest.raises(HarnessError, match="n_heads = 4 is not divisible by n_key_value_heads = 3"):
        TransformerConfig.from_architecture(uneven, d_vocab=10, longest=7)
    tight = Architecture(n_layers=1, n_heads=1, d_model=4, n_ctx=5)
    with pytest.raises(HarnessError, match="n_ctx is 5, but the task's longest prompt has 7"):
        TransformerConfig.from_architecture(tight, d_vocab=10, longest=7)
