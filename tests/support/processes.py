"""Processes that torch's launcher starts, for tests of what they do together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def launch(
    arguments: Sequence[str],
    processes: int = 2,
    more: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """`torchrun --nproc-per-node PROCESSES ARGUMENTS` on this machine, on a free port.

    `more`: further variables.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), *arguments]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, **(more or {})},
    )
