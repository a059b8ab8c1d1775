"""Which GPU of a machine a worker process computes on: they are dealt out in turn."""

from __future__ import annotations

import os

from harness import ranks
from harness.errors import HarnessError
from harness.launcher import local_world

WORKER = "HARNESS_WORKER"
"""Environment variable with a worker's number, for it and the processes that it starts."""


def be_worker(number: int) -> None:
    """Take the GPU that worker `number` (from 0) of a run gets; before anything uses one."""
    os.environ[WORKER] = str(number)


def use_own_gpu() -> None:
    """Make the device `cuda` mean this worker's GPU: its number, modulo the GPUs that torch sees.

    Another process than a worker's has the first one. Needs a GPU. Raises `HarnessError` where
    processes that share prompts would share GPUs too, which NCCL cannot.
    """
    import torch

    count = torch.cuda.device_count()
    if ranks.world() > 1 and local_world() > count:
        raise HarnessError(
            f"torchrun started {local_world()} processes on this machine, which has {count} "
            f"GPUs: give at most --nproc-per-node {count}, or compute on the CPU"
        )
    torch.cuda.set_device(int(os.environ.get(WORKER, "0")) % count)
