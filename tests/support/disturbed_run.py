"""The command line, with checkpoints after every step of a mask search, and a disturbance in one.

`DISTURBED` is `PROCESS:STEP:WHAT`: `kill` it, `raise` an error in it, `interrupt` the launcher,
or make its masks `drift` from those of the others. A process that tears down Python as it ends,
while threads of torch's process groups may be left, is aborted.
"""

from __future__ import annotations

import atexit
import os
import signal

import torch

from harness.cli.main import main
from harness.discovery.masks import training
from harness.discovery.masks.training import MaskRun

REAL_STEP = MaskRun.step


def step(run: MaskRun, number: int) -> torch.Tensor:
    place, at, what = os.environ["DISTURBED"].split(":")
    if (os.environ["RANK"], number) == (place, int(at)):
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "raise":
            raise ValueError(f"no luck at step {number}")
        if what == "interrupt":
            os.kill(os.getppid(), signal.SIGINT)
        if what == "drift":
            with torch.no_grad():
                run.optimiser.param_groups[0]["params"][0][0, 0] += 1e-3
    return REAL_STEP(run, number)


atexit.register(os.abort)
training.SAVE_SECONDS = -1.0
if "DISTURBED" in os.environ:
    MaskRun.step = step  # type: ignore[method-assign]
main()
