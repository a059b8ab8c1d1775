"""Costs are ratios measured in one process; memory is seen."""

from __future__ import annotations

import sys

import pytest
import torch
from support.slow_reference import small_model

from harness.runs.compute import cost


def allocate_and_touch_64_mib():
    block = torch.ones(64 * 2**18)
    for _ in range(20):
        block.add_(1)


def test_peak_memory_sees_what_is_allocated_and_freed():
    with cost.measured() as found:
        allocate_and_touch_64_mib()
    assert 50 <= found.peak_mib <= 200
    assert found.seconds > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's allocator can be told")
def test_peak_memory_does_not_overlook_what_the_allocator_had_kept():
    # The first block raises the size up to which freed memory stays with the allocator; the
    # small ones lie above the others, so that these cannot be handed back as its top.
    first = torch.ones(31 * 2**18)
    del first
    blocks = [torch.ones(31 * 2**18) for _ in range(4)]
    above = [bytearray(100_000) for _ in range(4)]
    del blocks
    with cost.measured() as found:
        allocate_and_touch_64_mib()
    assert found.peak_mib >= 50
    assert len(above) == 4


def test_a_plain_pass_leaves_the_model_frozen(random_batch):
    model = small_model("gpt2-like")
    cost.plain_forward_backward(model, random_batch().clean)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_seconds_are_scaled_from_the_largest_batch_by_tokens(random_batch, monkeypatch):
    model = small_model("gpt2-like")
    seen = []
    monkeypatch.setattr(cost, "seconds_of", lambda run, device: seen.append(run) or 2.0)
    large, small = random_batch(n=6, length=6), random_batch(n=3, length=4)
    assert cost.plain_seconds(model, [small, large]) == pytest.approx(2 * (36 + 12) / 36)
    assert len(seen) == 1
