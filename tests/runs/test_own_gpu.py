"""Workers of one machine share out its GPUs; the fake torch here says how many there are."""

from __future__ import annotations

import pytest
import torch
from support.threads_as_processes import in_processes

from harness import ranks
from harness.errors import HarnessError
from harness.runs.compute.gpu import WORKER, be_worker
from harness.runs.compute.machine import use_runtime
from harness.spec.types import Runtime


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The devices that were set, on a machine with three GPUs."""
    devices: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    monkeypatch.setenv(WORKER, "0")
    return devices


def test_workers_get_gpus_in_turn(chosen: list[int]) -> None:
    for number in range(5):
        be_worker(number)
        use_runtime(Runtime(device="cuda"))
    assert chosen == [0, 1, 2, 0, 1]


def test_a_process_that_is_no_worker_has_the_first(
    chosen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(WORKER)
    use_runtime(Runtime(device="cuda"))
    assert chosen == [0]


def test_nothing_is_set_on_a_cpu(chosen: list[int]) -> None:
    use_runtime(Runtime(device="cpu"))
    assert chosen == []


def test_processes_that_share_prompts_need_a_gpu_each(
    chosen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for count, refused in ((3, False), (4, True)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(count))

        def use() -> None:
            be_worker(ranks.rank())
            use_runtime(Runtime(device="cuda"))

        if refused:
            with pytest.raises(HarnessError, match=r"4 processes .* which has 3 GPUs"):
                in_processes(count, use)
        else:
            in_processes(count, use)
            assert len(chosen) == 3
