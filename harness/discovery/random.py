"""Uniform random scores: the floor that every method has to beat (MIB's `Random`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.discovery.problem import Discovery, Problem


@dataclass(frozen=True)
class Random:
    """Independent uniform scores in [0, 1). Cost: nothing is run."""

    def discover(self, problem: Problem) -> Discovery:
        """Draw one score per edge."""
        allowed = problem.graph.allowed
        drawn = torch.rand(allowed.shape, generator=problem.generator, dtype=torch.float64)
        return Discovery(drawn * allowed)
