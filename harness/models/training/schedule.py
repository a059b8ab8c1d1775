"""How the learning rate changes with the step."""

from __future__ import annotations

import math

from harness.spec.types import Training


def learning_rate(spec: Training, step: int) -> float:
    """Rate at a step: linear warm-up to `learning_rate`, then the schedule to its final share."""
    if step < spec.warmup_steps:
        return spec.learning_rate * (step + 1) / spec.warmup_steps
    progress = (step - spec.warmup_steps) / max(1, spec.steps - spec.warmup_steps)
    floor = spec.final_learning_rate
    left = 1 - progress if spec.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return spec.learning_rate * (floor + (1 - floor) * left)
