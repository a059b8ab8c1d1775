"""Apply a runtime (device, precision, threads) to this process."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from harness.errors import HarnessError
from harness.models.precision import HALF
from harness.runs.compute.gpu import use_own_gpu
from harness.spec.types import Runtime


def use_runtime(runtime: Runtime) -> None:
    """Set the number of threads; refuse a device or precision that is not available.

    Raises `HarnessError`; not every CPU or GPU computes in half precision.
    """
    torch.set_num_threads(runtime.threads)
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise HarnessError("runtime.device is cuda, but torch sees no CUDA device here")
    if runtime.device == "cuda":
        use_own_gpu()
    dtype = getattr(torch, runtime.dtype)
    if dtype in HALF:
        try:
            _try_out(dtype, runtime.device)
        except RuntimeError as error:
            raise HarnessError(
                f"runtime.dtype is {runtime.dtype}, but torch cannot compute in it on "
                f"{runtime.device} here ({str(error).splitlines()[0]}); choose float32"
            ) from error


def _try_out(dtype: torch.dtype, device: str) -> None:
    """Run the kinds of operation that models use, forward and backward, on small tensors."""
    x = torch.ones(2, 2, 2, 2, dtype=dtype, device=device, requires_grad=True)
    y = F.scaled_dot_product_attention(x, x, x, is_causal=True).flatten(0, 1)
    y = torch.baddbmm(y, y, y) + F.rms_norm(y, (2,)) + F.layer_norm(y, (2,))
    (F.linear(F.gelu(y), y[0]).softmax(-1) * F.silu(y)).sum().backward()
