"""Uniform random scores: the floor that every method has to beat (MIB's `Random`).

Cost: no plain forward+backward; nothing is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.discovery.fields import NO_PARAMS
from harness.discovery.info import MethodInfo
from harness.discovery.problem import Discovery, Problem


@dataclass(frozen=True)
class Random:
    """Independent uniform scores in [0, 1)."""

    ABOUT: ClassVar = NO_PARAMS

    def discover(self, problem: Problem) -> Discovery:
        """Draw one score per element."""
        import torch

        return Discovery(problem.space.uniform(problem.generator, torch.float64))


INFO = MethodInfo(
    kind="random",
    title="Uniform random scores: the floor that every method has to beat",
    method=Random,
    cost="0",
    processes=True,
    passes=lambda params, extent: 0.0,
    shards=True,
)
