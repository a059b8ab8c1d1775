"""Processes that torch's launcher starts, for tests of what they do together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

TASK = """\
spec_version: 1
name: toy
title: Brackets
tokenizer: {kind: characters, bos: true}
data:
  kind: generator
  generator: brackets
  params: {kinds: ["()", "[]"], lengths: [7, 9], max_depth: 3, min_distance: 2}
evaluation:
  granularity: edge
  component: heads_qkv_mlps
  ablation: mean
  positions: all
  direction: noising
  set: complement
  sizes: [0.1, 0.5, 1.0]
  discovery_pairs: 33
  test_pairs: 41
model:
  kind: train
  name: brackets
  architecture: {n_layers: 2, n_heads: 2, d_model: 16}
  training: {objective: answer, steps: 30}
"""
"""A task whose pairs two processes do not share evenly."""


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
