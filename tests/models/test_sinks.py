"""Attention sinks: every way to compute them against the definition, and who refuses them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
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
    without = causal(q, k, v, torch.tensor([-200.0, -torch.inf]).double(), None)
    torch.testing.assert_close(without, attention(q, k, v, causal=True))
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


# ---------------------------------------------------------------- half precision without sinks
HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


def public(q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)


def plain(q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
    return attention(q, k, v, causal=True, scale=scale)


@HALVES
@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("shape", [(2, 3, 18, 8), (6, 2, 70, 16)])
def test_half_precision_has_the_values_of_torch_and_better_gradients(dtype, scale, shape):
    leaves = reads(*shape, dtype=dtype)
    out, *gradients = ends(plain, leaves, scale)
    theirs, *rounded = ends(public, leaves, scale)
    assert torch.equal(out, theirs)
    assert torch.equal(out, plain(*leaves, scale))  # as where no gradients are asked for
    _, *exact = ends(public, [x.double() for x in leaves], scale)
    for own, other, wanted in zip(gradients, rounded, exact, strict=True):
        assert own.dtype == dtype
        assert 0 < (own - wanted).norm() < (other - wanted).norm()


@HALVES
def test_torchs_own_backward_stays_where_it_is_as_good(dtype, monkeypatch):
    def used(x: Tensor) -> bool:
        return sinks.causal_in_half(x, x, x, None) is not None

    q = torch.zeros(1, 2, 256, 8, dtype=dtype, requires_grad=True)
    assert used(q)
    assert not used(q.detach())
    assert not used(q.float())
    assert not used(q[0])
    assert not used(torch.zeros(1, 2, 257, 8, dtype=dtype, requires_grad=True))
    with torch.no_grad():
        assert not used(q)
    monkeypatch.setattr(sinks, "_kernel_is_right", lambda dtype: False)
    assert not used(q)


@HALVES
def test_gradients_of_sinks_in_half_precision_are_rounded_once(dtype):
    """Of queries, keys and values; each within an ε of the exact one, relative to all of them."""
    leaves = [*reads(2, 3, 40, 8, dtype=dtype), torch.tensor([0.5, -1.0, 3.0], dtype=dtype)]
    wanted = ends(causal, [x.double() for x in leaves], None)[1:4]
    for found, exact in zip(ends(causal, leaves, None)[1:4], wanted, strict=True):
        assert found.dtype == dtype
        assert (found - exact).norm() < torch.finfo(dtype).eps * exact.norm()


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
