"""Attention sinks: every way to compute them against the definition, and who refuses them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from support.slow_reference import small_model
from torch import Tensor

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.errors import HarnessError
from harness.models import sinks
from harness.models.attention import attention
from harness.models.transformer import random_model
from harness.spec.types import ActivationSparsity


def defined(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, scale: float | None) -> Tensor:
    """One query at a time: Σ exp(s)·v / (Σ exp(s) + exp(b)) over the keys up to its own."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    out = []
    for t in range(q.shape[-2]):
        shares = (scale * (q[..., t : t + 1, :] * k[..., : t + 1, :]).sum(-1)).exp()
        total = shares.sum(-1) + sink.exp()
        out.append((shares[..., None] * v[..., : t + 1, :]).sum(-2) / total[..., None])
    return torch.stack(out, -2)


def ends(run: Callable[..., Tensor], leaves: list[Tensor], *rest: object) -> list[Tensor]:
    """The value of a run and the gradients of a random sum of it."""
    leaves = [x.detach().requires_grad_() for x in leaves]
    out = run(*leaves, *rest)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).to(out)
    return [out, *torch.autograd.grad((out * weight).sum(), leaves)]


def causal(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, scale: float | None) -> Tensor:
    return attention(q, k, v, causal=True, scale=scale, sink=sink)


def reads(*shape: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """q, k, v [a, b, T, K] as they lie in a model: heads behind tokens."""
    draw = torch.Generator().manual_seed(0)
    a, b, t, k = shape
    return [torch.randn(a, t, b, k, generator=draw).to(dtype).transpose(1, 2) for _ in range(3)]


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize(("shape", "sink"), [((2, 3, 7, 5), (3,)), ((6, 2, 70, 8), (6, 1))])
def test_values_and_gradients_are_those_of_the_definition(kernel, scale, shape, sink, monkeypatch):
    monkeypatch.setattr(sinks, "_kernel_is_right", lambda dtype: kernel)
    logits = 2 * torch.randn(sink, generator=torch.Generator().manual_seed(1)).double()
    leaves = [*reads(*shape), logits]
    for found, wanted in zip(
        ends(causal, leaves, scale), ends(defined, leaves, scale), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-5), (torch.bfloat16, 0.05)])
def test_other_precisions_round(kernel, dtype, near, monkeypatch):
    monkeypatch.setattr(sinks, "_kernel_is_right", lambda dtype: kernel)
    leaves = [*reads(2, 3, 9, 8, dtype=dtype), torch.tensor([0.5, -1.0, 3.0], dtype=dtype)]
    exact = ends(defined, [x.double() for x in leaves], None)
    for found, wanted in zip(ends(causal, leaves, None), exact, strict=True):
        assert found.dtype == dtype
        assert (found - wanted).abs().max() <= near * wanted.abs().max()


def test_extreme_sinks():
    """A sink that is never looked at is none; one that draws all attention leaves zero."""
    q, k, v = reads(1, 2, 5, 4)
    plain = attention(q, k, v, causal=True)
    without = causal(q, k, v, torch.tensor([-200.0, -torch.inf]).double(), None)
    torch.testing.assert_close(without, plain)
    leaves = [q, k, v, torch.tensor([200.0, 1000.0]).double()]
    for found in ends(causal, leaves, None):
        assert found.isfinite().all()
        assert found.abs().max() < 1e-60


def test_the_kernel_of_this_torch_is_used():
    assert sinks._kernel_is_right(torch.float32)
    assert sinks._kernel_is_right(torch.float64)


def test_a_kernel_that_is_another_is_not_used(monkeypatch, caplog):
    sinks._kernel_is_right.cache_clear()
    monkeypatch.setattr(sinks, "_by_kernel", lambda q, k, v, sink, scale: (q + k + v) * sink[0])
    assert not sinks._kernel_is_right(torch.float32)
    monkeypatch.setattr(sinks, "_KERNEL", "no_such_kernel")
    sinks._kernel_is_right.cache_clear()
    assert not sinks._kernel_is_right(torch.float64)
    assert "is not what" in caplog.text
    sinks._kernel_is_right.cache_clear()


def test_new_parameters_start_as_stated():
    """Sinks at zero: like one more key of score 0; bigrams uniform in [0, 0.02)."""
    model = random_model(small_model("sinks-bigrams", d_vocab=60).config, 0)
    assert all(not block.sink_logit.any() for block in model.layers())
    table = model.bigram_table.detach()
    assert table.shape == (60, 60)
    assert 0 <= float(table.min()) < 2e-4
    assert 0.0198 < float(table.max()) < 0.02
    assert float(table.mean()) == pytest.approx(0.01, rel=0.03)


def test_edges_refuse_what_they_cannot_split(random_batch):
    sparse = small_model("gpt2-like", activation_sparsity=ActivationSparsity(keep=0.5))
    with pytest.raises(HarnessError, match="not available for models with activation_sparsity"):
        EdgeModel(sparse, Graph.of(sparse.config))
    model = small_model("sinks-bigrams")
    with pytest.raises(HarnessError, match="weights do not add up to 1"):
        EdgeCounterfactuals(model, Graph.of(model.config), "zero", head_bias="folded")
    EdgeCounterfactuals(model, Graph.of(model.config), "zero", head_bias="shared")
