"""Costs are ratios measured in one process; memory is seen."""

from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from support.slow_reference import small_model

from harness.runs.compute import cell as module
from harness.runs.compute import cost
from harness.runs.compute.last import Last
from harness.spec.types import Runtime


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


def spin(seconds):
    """Use a processor for so long, whatever the neighbours do."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_processor_time_is_that_of_the_work_and_not_of_waiting():
    """A neighbour that takes the processor is a wait: wall time passes, processor time does not."""
    with cost.measured() as found:
        spin(0.2)
        time.sleep(0.5)
    assert found.seconds >= 0.65  # other threads of this process may spin for it
    assert 0.15 <= found.processor_seconds <= 0.45  # a neighbour costs some switching
    times = cost.times_of(lambda: time.sleep(0.02), repeats=1)
    assert times.wall >= 0.02
    assert times.processor < 0.02


def test_processor_time_counts_all_threads_but_the_one_that_watches_memory():
    def wait():
        thread = threading.Thread(target=spin, args=(0.2,))  # process_time is that of all threads
        thread.start()
        thread.join()

    with cost.measured() as found:
        wait()
    assert found.processor_seconds >= 0.15
    with cost.measured() as found:
        time.sleep(0.3)
    assert found.processor_seconds < 0.1


@pytest.mark.parametrize(("device", "expected"), [("cpu", 4.0), ("cuda", 20.0)])
def test_costs_are_in_processor_time_where_there_is_one(device, expected):
    """On a busy machine: 10 s of wall time for 2 s of work, beside a plain pass in peace."""
    spent = cost.Cost(seconds=10.0, processor_seconds=2.0, peak_mib=3.0)
    timing = cost.timing(spent, cost.Times(0.5, 0.5), device)
    assert timing == {
        "seconds": 10.0,
        "processor_seconds": 2.0,
        "cost_fb": expected,
        "cost_fb_wall": 20.0,
        "peak_mib": 3.0,
    }


def test_what_was_spent_before_a_stop_counts():
    spent = cost.Cost(seconds=1.0, processor_seconds=0.5)
    plain = cost.Times(0.5, 0.25)
    timing = cost.timing(spent, plain, "cpu", earlier_seconds=3.0)  # in proportion
    assert (timing["seconds"], timing["processor_seconds"]) == (4.0, 2.0)
    assert (timing["cost_fb"], timing["cost_fb_wall"]) == (8.0, 8.0)
    timing = cost.timing(spent, plain, "cpu", 3.0, 0.25)  # before the stop it was busy
    assert (timing["seconds"], timing["processor_seconds"]) == (4.0, 0.75)
    assert (timing["cost_fb"], timing["cost_fb_wall"]) == (3.0, 8.0)


def test_a_plain_pass_leaves_the_model_frozen(random_batch):
    model = small_model("gpt2-like")
    cost.plain_forward_backward(model, random_batch().clean)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_seconds_are_measured_once_and_scaled_from_the_largest_batch(random_batch, monkeypatch):
    asked = []
    monkeypatch.setattr(
        module, "plain_times", lambda model, batch, device: asked.append(batch) or cost.Times(2, 3)
    )
    monkeypatch.setattr(module, "_PLAIN", Last())
    large, small = random_batch(n=6, length=6), random_batch(n=3, length=4)
    cell = SimpleNamespace(model_id="m", runtime=Runtime())
    for batches, share in (([small, large], (36 + 12) / 36), ([large, large], 2.0)):
        setup = SimpleNamespace(batches=batches, model=None)
        wall, processor = module._plain(cell, setup)
        assert (wall, processor) == (pytest.approx(2 * share), pytest.approx(3 * share))
    assert asked == [large]
    module._plain(cell, SimpleNamespace(batches=[small], model=None))
    assert asked == [large, small]  # another shape
