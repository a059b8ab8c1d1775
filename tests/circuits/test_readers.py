"""Readers with folded norms beside a float64 reference, and how half precision rounds them."""

from __future__ import annotations

import pytest
import torch
from support.slow_reference import small_model
from torch import Tensor

from harness.circuits.edges.patched.readers import FoldedReaders, centred, inverse_size
from harness.models.norm import Norm

HALVES = (torch.bfloat16, torch.float16)


def folded(kind: str, dtype: torch.dtype, part: str) -> FoldedReaders:
    """The readers of a layer of width 48, all of them with biases where the model has any."""
    wide = {"d_model": 48, "d_mlp": 40}
    model = small_model("gpt2-like", dtype=dtype, **({"norm": kind} | wide))
    make = {"attention": FoldedReaders.attention, "mlp": FoldedReaders.mlp}[part]
    return make(next(model.layers()))


def streams(readers: FoldedReaders, seed: int, dtype: torch.dtype, dominant: float) -> Tensor:
    """Centred streams [R, N, D] of many sizes; entry 3 is `dominant` times as large as others."""
    draw = torch.Generator().manual_seed(seed)
    shape = len(readers.weights), 60, readers.weights.shape[1]
    x = torch.randn(shape, generator=draw, dtype=torch.float64)
    x[..., 3] *= dominant
    sizes = 10 ** torch.linspace(-2, 1.5, 60, dtype=torch.float64)
    return centred((x * sizes[:, None]).to(dtype), readers.norm)


def exact(readers: FoldedReaders, x: Tensor) -> Tensor:
    """What `read` should give, in float64 from the very same weights and streams."""
    x, scale = x.double(), torch.ones(())
    if readers.norm.kind != "none":
        scale = (x.square().mean(-1, keepdim=True) + readers.norm.eps).rsqrt()
    bias = readers.bias.double() if isinstance(readers.bias, Tensor) else readers.bias
    return torch.einsum("rnd,rdk->rnk", x, readers.weights.double()) * scale + bias


def normed_first(readers: FoldedReaders, x: Tensor) -> Tensor:
    """The order of the model itself: the stream is normalised and rounded, then multiplied."""
    return (
        torch.bmm((x * inverse_size(x, readers.norm)).to(x.dtype), readers.weights) + readers.bias
    )


def error(result: Tensor, wanted: Tensor) -> float:
    return float((result.double() - wanted).norm() / wanted.norm())


every_norm = pytest.mark.parametrize("kind", ["layernorm", "rmsnorm", "none"])
both_parts = pytest.mark.parametrize("part", ["attention", "mlp"])


@every_norm
@both_parts
@pytest.mark.parametrize("dominant", [1.0, 300.0])
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_reads_no_worse_than_the_model_does(kind, part, dominant, dtype):
    """The model rounds each number three times: the normed stream, the product, with its bias."""
    readers = folded(kind, dtype, part)
    for seed in range(3):
        x = streams(readers, seed, dtype, dominant)
        wanted, result = exact(readers, x), readers.read(x)
        limit = error(normed_first(readers, x), wanted)
        assert result.dtype == dtype
        assert 0 < error(result, wanted) <= limit
        if dtype == torch.bfloat16 and kind != "none":
            assert error(result, wanted) < 0.95 * limit  # one rounding less


@every_norm
@both_parts
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_precision_is_the_product_scaled(kind, part, dtype):
    """Bit by bit: the order of operations is part of stored numbers."""
    readers = folded(kind, dtype, part)
    x = streams(readers, 0, dtype, 1.0)
    scale: Tensor | float = 1.0
    if kind != "none":
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = (length.square() / x.shape[-1] + readers.norm.eps).rsqrt()
    assert torch.equal(readers.read(x), torch.bmm(x, readers.weights) * scale + readers.bias)
    assert error(readers.read(x), exact(readers, x)) < 10 * torch.finfo(dtype).eps


@every_norm
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_a_shared_stream_is_read_as_each_readers_own(kind, dtype):
    readers = folded(kind, dtype, "attention")
    x = streams(readers, 0, dtype, 1.0)[:1]
    own = readers.read(x.expand(len(readers.weights), -1, -1).contiguous())
    shared = readers.read_shared(x[0].unflatten(0, (12, 5)))
    assert shared.shape == (len(own), 12, 5, own.shape[-1])
    assert error(shared.flatten(1, 2), own.double()) < 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("factor", [1e-4, 1.0, 3e3])
def test_sizes_of_streams_in_half_are_found_in_single_precision(kind, dtype, factor):
    """Also where squares are beyond float16, and where ε is most of the size."""
    norm: Norm = folded(kind, dtype, "mlp").norm
    x = torch.randn(4, 30, 48, generator=torch.Generator().manual_seed(2)) + 0.5
    x = (x * factor).to(dtype)
    result, wanted = inverse_size(x, norm), (x.double().square().mean(-1) + norm.eps).rsqrt()
    assert result.dtype == torch.float32
    assert result.shape == (4, 30, 1)
    torch.testing.assert_close(result[..., 0].double(), wanted, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", HALVES)
def test_products_need_no_copy_of_the_weights(dtype):
    """Each reader's matrix lies densely after the other, whichever way: also that of one alone."""
    for part in ("attention", "mlp"):
        weights = folded("layernorm", dtype, part).weights
        _, width, out = weights.shape
        assert weights.stride() == (width * out, 1, width), part
        assert weights.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("dtype", HALVES)
def test_gradients_at_streams_are_near_the_exact_ones(dtype):
    readers = folded("layernorm", dtype, "attention")
    x = streams(readers, 1, dtype, 1.0)
    draw = torch.Generator().manual_seed(3)
    at = torch.randn(*x.shape[:2], readers.weights.shape[2], generator=draw).to(dtype)
    precise = x.double().requires_grad_()
    (wanted,) = torch.autograd.grad(exact(readers, precise), precise, at.double())
    result = readers.stream_gradients(x, readers.read(x), at)
    assert error(result, wanted) < 4 * torch.finfo(dtype).eps
