"""Apply a runtime (device, precision, threads) to this process."""

from __future__ import annotations

import logging
from functools import lru_cache

import torch
import torch.nn.functional as F

from harness.errors import HarnessError
from harness.models.precision import HALF
from harness.runs.compute.gpu import use_own_gpu
from harness.spec.types import Runtime

INSTRUCTIONS = {
    torch.bfloat16: ("amx_bf16", "avx512_bf16", "avx10_2", "sve_bf16", "bf16"),
    torch.float16: ("amx_fp16", "avx512_fp16", "avx10_2", "fp16_arith"),
}
"""What CPUs call their arithmetic in half precision, in the names that torch has for it."""

_LOG = logging.getLogger(__name__)


def use_runtime(runtime: Runtime) -> None:
    """Set the number of threads; refuse a device or precision that is not available.

    Raises `HarnessError`; not every CPU or GPU computes in half precision.
    """
    torch.set_num_threads(runtime.threads)
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise HarnessError("runtime.device is cuda, but torch sees no CUDA device here")
    if runtime.device == "cuda":
        use_own_gpu()
    use_precision(runtime.dtype, runtime.device, "runtime.dtype")


def use_precision(precision: str, device: str, key: str) -> None:
    """Refuse a precision that is not available on a device; warn where a CPU only emulates it.

    `key`: which one of a spec asks for it. Raises `HarnessError`.
    """
    dtype = getattr(torch, precision)
    if dtype not in HALF:
        return
    try:
        _try_out(dtype, device)
    except RuntimeError as error:
        raise HarnessError(
            f"{key} is {precision}, but torch cannot compute in it on {device} here "
            f"({str(error).splitlines()[0]}); choose float32"
        ) from error
    if device == "cpu":
        _warn_if_emulated(dtype)


def half_arithmetic(dtype: torch.dtype) -> tuple[str, ...] | None:
    """Which instructions of this CPU compute in a half precision; None if torch cannot tell."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is None:
        return None
    has = capabilities()
    return tuple(name for name in INSTRUCTIONS[dtype] if has.get(name))


@lru_cache
def _warn_if_emulated(dtype: torch.dtype) -> None:
    """Once in a process."""
    if half_arithmetic(dtype) == ():
        name = str(dtype).removeprefix("torch.")
        _LOG.warning(
            "this CPU has no arithmetic in %s (none of %s): its numbers are right, but take "
            "several times as long as in float32",
            name,
            ", ".join(INSTRUCTIONS[dtype]),
        )


def _try_out(dtype: torch.dtype, device: str) -> None:
    """Run the kinds of operation that models use, forward and backward, on small tensors."""
    x = torch.ones(2, 2, 2, 2, dtype=dtype, device=device, requires_grad=True)
    y = F.scaled_dot_product_attention(x, x, x, is_causal=True).flatten(0, 1)
    y = torch.baddbmm(y, y, y) + F.rms_norm(y, (2,)) + F.layer_norm(y, (2,))
    (F.linear(F.gelu(y), y[0]).softmax(-1) * F.silu(y)).sum().backward()
