"""What a computation costs: seconds, peak memory, and plain forward+backwards of the same model.

Seconds depend on the machine; `cost_fb` divides them by the time of one plain forward and backward
(next-token loss at all positions, gradients of all weights) measured in the same process on the
same prompts, so that it can be compared between machines. Both are processor time of all threads,
which neighbours move less than wall time; on CUDA both are wall time.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

from harness import ranks
from harness.datasets.batch import Batch
from harness.models.transformer import Transformer

_SAMPLING_SECONDS = 0.002
_TICK = time.get_clock_info("process_time").resolution

Result = TypeVar("Result")


@dataclass
class Cost:
    """Wall seconds, processor seconds of all threads, and peak memory in MiB above what was in use
    at the start.
    """

    seconds: float = 0.0
    processor_seconds: float = 0.0
    peak_mib: float = 0.0


class Times(NamedTuple):
    """Seconds of one computation: by the clock, and of the processors that worked on it."""

    wall: float
    processor: float

    def scaled(self, factor: float) -> Times:
        """Both, as often."""
        return Times(self.wall * factor, self.processor * factor)


@contextmanager
def measured(device: str = "cpu") -> Iterator[Cost]:
    """Measure the block: resident memory sampled every 2 ms, or CUDA's own peak counter."""
    cost = Cost()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        clock = _Clock()
        yield cost
        torch.cuda.synchronize()
        cost.seconds, cost.processor_seconds = clock.times()
        cost.peak_mib = (torch.cuda.max_memory_allocated() - before) / 2**20
        return
    with _resident_peak() as peak:
        clock = _Clock()
        yield cost
        cost.seconds, cost.processor_seconds = clock.times()
    cost.processor_seconds -= peak.watching_seconds
    cost.peak_mib = peak.growth / 2**20


def of_all(cost: Cost) -> Cost:
    """The cost of a computation that several processes share.

    Processor seconds of all of them; wall seconds and memory of the one that has most.
    """
    costs = ranks.gathered(cost)
    return Cost(
        max(one.seconds for one in costs),
        sum(one.processor_seconds for one in costs),
        max(one.peak_mib for one in costs),
    )


class _Clock:
    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def times(self) -> Times:
        """Since it was started."""
        return Times(time.perf_counter() - self._wall, time.process_time() - self._processor)


@dataclass
class _Peak:
    """Bytes by which memory grew at most, and the processor time of looking at it."""

    growth: int = 0
    watching_seconds: float = 0.0


@contextmanager
def _resident_peak() -> Iterator[_Peak]:
    """Largest growth of this process's resident memory."""
    _give_back_free_memory()
    process, peak, done = psutil.Process(), _Peak(), threading.Event()
    start = process.memory_info().rss

    def sample() -> None:
        peak.growth = max(peak.growth, process.memory_info().rss - start)

    def watch() -> None:
        while not done.wait(_SAMPLING_SECONDS):
            sample()
        peak.watching_seconds = time.thread_time()

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


def times_of(run: Callable[[], object], repeats: int = 3, device: str = "cpu") -> Times:
    """Median wall and processor seconds of `repeats` runs, after one run to warm up."""
    times = []
    for _ in range(repeats + 1):
        clock = _Clock()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(clock.times())
    walls, processors = zip(*times[1:], strict=True)
    return Times(statistics.median(walls), statistics.median(processors))


def plain_times(model: Transformer, batch: Batch, device: str = "cpu") -> Times:
    """Seconds of one plain forward+backward over a batch.

    Weights in shards get no gradients, which would cost what the forward does: half as much again.
    """
    times = times_of(lambda: plain_forward_backward(model, batch.clean), device=device)
    model.zero_grad(set_to_none=True)
    return times if model.gatherings is None else times.scaled(1.5)


def timing(
    cost: Cost,
    plain: Times,
    device: str,
    earlier_seconds: float = 0.0,
    earlier_processor_seconds: float | None = None,
) -> dict[str, float]:
    """What `timing.json` says of a discovery.

    seconds, processor_seconds  wall and processor time
    cost_fb                     processor time (on CUDA wall time) in those of `plain`
    cost_fb_wall                wall time in those of `plain`
    `earlier_seconds`, `earlier_processor_seconds`: of a search that was resumed, from before the
    stop; processor time that is not told counts in the proportion that it has after the stop.
    """
    wall = cost.seconds + earlier_seconds
    processor = cost.processor_seconds * wall / cost.seconds
    if earlier_processor_seconds is not None:
        processor = cost.processor_seconds + earlier_processor_seconds
    by_clock = wall / plain.wall
    return {
        "seconds": wall,
        "processor_seconds": processor,
        "cost_fb": by_clock if device == "cuda" else processor / max(plain.processor, _TICK),
        "cost_fb_wall": by_clock,
        "peak_mib": cost.peak_mib,
    }
