"""What a computation costs: seconds, peak memory, and plain forward+backwards of the same model.

Seconds depend on the machine; `cost_fb` divides them by the time of one plain forward and backward
(next-token loss at all positions, gradients of all weights) measured in the same process on the
same prompts, so that it can be compared between machines.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.datasets.batch import Batch
from harness.models.transformer import Transformer

_SAMPLING_SECONDS = 0.002

Result = TypeVar("Result")


@dataclass
class Cost:
    """Wall seconds, and peak memory in MiB above what was in use at the start."""

    seconds: float = 0.0
    peak_mib: float = 0.0


@contextmanager
def measured(device: str = "cpu") -> Iterator[Cost]:
    """Measure the block: resident memory sampled every 2 ms, or CUDA's own peak counter."""
    cost = Cost()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        began = time.perf_counter()
        yield cost
        torch.cuda.synchronize()
        cost.seconds = time.perf_counter() - began
        cost.peak_mib = (torch.cuda.max_memory_allocated() - before) / 2**20
        return
    with _resident_peak() as peak:
        began = time.perf_counter()
        yield cost
        cost.seconds = time.perf_counter() - began
    cost.peak_mib = peak[0] / 2**20


@contextmanager
def _resident_peak() -> Iterator[list[int]]:
    """Largest growth of this process's resident memory, in bytes."""
    _give_back_free_memory()
    process, peak, done = psutil.Process(), [0], threading.Event()
    start = process.memory_info().rss

    def sample() -> None:
        peak[0] = max(peak[0], process.memory_info().rss - start)

    def watch() -> None:
        while not done.wait(_SAMPLING_SECONDS):
            sample()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        sample()


def _give_back_free_memory() -> None:
    """Return freed pages to the system, so that later allocations count as growth.

    The C allocator keeps freed memory and reuses it, which would not be measured. Only glibc has
    such a call; elsewhere the peak is a lower bound.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def in_fresh_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a module-level function in a fresh process; return or raise what it does."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def plain_forward_backward(model: Transformer, tokens: Tensor) -> None:
    """One ordinary training step's forward and backward on tokens [B, T], without the update.

    Gradients stay allocated, as in training: allocating them anew makes a step half as long
    again, which would make everything measured against it look cheaper.
    """
    model.requires_grad_(True)
    model.zero_grad(set_to_none=False)
    try:
        logits = model(tokens)
        targets = tokens[:, 1:] % logits.shape[-1]  # any will do where outputs are classes
        F.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten()).backward()
    finally:
        model.requires_grad_(False)


def seconds_of(run: Callable[[], object], repeats: int = 3, device: str = "cpu") -> float:
    """Median wall seconds of `repeats` runs, after one run to warm up."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def plain_seconds(model: Transformer, batches: Sequence[Batch], device: str = "cpu") -> float:
    """Seconds of one plain forward+backward over all batches.

    Measured on the largest batch and scaled by the number of tokens.
    """
    largest = max(batches, key=lambda batch: batch.clean.numel())
    one = seconds_of(lambda: plain_forward_backward(model, largest.clean), device=device)
    model.zero_grad(set_to_none=True)
    tokens = sum(batch.clean.numel() for batch in batches)
    return one * tokens / largest.clean.numel()
