"""A trace from any point is the plain model from there, and its gradients are autograd's."""

from __future__ import annotations

import pytest
import torch
from support.slow_reference import ARCHITECTURES, small_model

from harness.circuits.edges.counterfactuals import collect
from harness.circuits.edges.trace import Trace


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_trace_from_every_point_ends_as_the_model_does(name, random_batch):
    model, batch = small_model(name), random_batch(n=3)
    plain = collect(model, batch.clean)
    layers = model.config.n_layers
    for point in range(2 * layers + 1):
        if model.config.parallel and point % 2:
            continue  # the stream before a parallel MLP is that before the attention
        trace = Trace.of(model, plain.streams[point], point)
        torch.testing.assert_close(trace.end, plain.streams[-1], rtol=1e-12, atol=1e-12)
        assert len(trace.reads) == layers - (point + 1) // 2
        assert len(trace.mlps) == layers - point // 2


def test_gradients_are_what_small_changes_do(random_batch):
    """Moving the start, or what one reader gave, moves the number by its gradient."""
    model, batch = small_model("gpt2-like"), random_batch(n=3)
    start = model.start(batch.clean)
    weight = torch.randn(start.shape, generator=torch.Generator().manual_seed(1)).double()

    def total(x):
        return (Trace.of(model, x).end * weight).sum()

    trace = Trace.of(model, start)
    gradients = trace.gradients((trace.end * weight).sum(), trace.end)
    step = torch.randn(start.shape, generator=torch.Generator().manual_seed(2)).double() * 1e-5
    moved = (total(start + step) - total(start - step)).item() / 2
    assert (gradients.start * step).sum().item() == pytest.approx(moved, rel=1e-6)
    torch.testing.assert_close(gradients.final, weight)
    with torch.no_grad():  # the last MLP reads one branch; the stream goes past it unchanged
        block = list(model.layers())[-1]
        at, step = trace.mlps[-1].detach(), step * 10
        change = block.mlp(at + step) - block.mlp(at - step)
    wanted = (change * weight).sum().item() / 2
    assert (gradients.mlps[-1] * step).sum().item() == pytest.approx(wanted, rel=1e-6)
