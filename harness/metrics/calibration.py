"""Calibration of the choice between two answers, as Gao et al. 2025 score pruned circuits.

A circuit may tell two answers apart and still prefer one of them throughout. With d the log odds of
the first answer against the second, fitted on some prompts and measured on others,

    d' = scale · d + shift,   scale > 0

so that neither the order of prompts nor what is right can change; one shift of all logits would
change nothing, as softmax ignores it. Which answer is the first is a matter of their tokens, not of
which is right.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.metrics.measure import Measure

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

STEPS = 50
LEAST_SCALE = 1e-3
PENALTY = 1e-4
"""Of scale² + shift², in nats, where log odds are measured by their root mean square: else nothing
bounds the scale where all prompts are told apart."""


class Calibration(NamedTuple):
    """What log odds are multiplied by, and what is added in favour of the first answer."""

    scale: float
    shift: float

    @classmethod
    def fit(cls, odds: Floats, first: Floats, *, shifted: bool = True) -> Calibration:
        """The least mean task loss on prompts with these log odds of their good answer [n].

        `first` [n] is 1 where that is the first answer, -1 where it is the second; without
        `shifted` the shift is 0. The loss is convex, so that where the best scale is no more than
        `LEAST_SCALE` times what it was, that one is the best allowed.
        """
        unit = max(float(np.sqrt(np.square(odds).mean())), np.finfo(np.float64).tiny)
        free = np.array([True, shifted])
        x = _least(np.zeros(2), odds / unit, first, free)
        if x[0] < LEAST_SCALE:
            free[0] = False
            x = _least(np.array([LEAST_SCALE, 0.0]), odds / unit, first, free)
        return cls(float(x[0] / unit), float(x[1]))

    def losses(self, odds: Floats, first: Floats) -> Floats:
        """The calibrated task loss of each prompt [n]."""
        return calibrated_task_loss(odds, first, self.scale, self.shift)


def calibrated_task_loss(odds: Floats, first: Floats, scale: float, shift: float) -> Floats:
    """softplus(-(scale · log odds ± shift)) of each prompt [n], + where `first` [n] is 1."""
    losses: Floats = np.logaddexp(0.0, -(scale * odds + shift * first))
    return losses


def _least(x: Floats, odds: Floats, first: Floats, free: Bools) -> Floats:
    """(scale, shift) of the least penalised loss, by damped Newton steps of what is `free` [2]."""
    value, gradient, curvature = _loss(x, odds, first)
    damping = 1e-6
    for _ in range(STEPS):
        step = np.zeros(2)
        among = np.ix_(free, free)
        if free.any():
            step[free] = np.linalg.solve(
                curvature[among] + damping * np.eye(int(free.sum())), gradient[free]
            )
        tried = _loss(x - step, odds, first)
        if tried[0] <= value:
            x, damping = x - step, max(damping / 10, 1e-12)
            value, gradient, curvature = tried
        else:
            damping *= 10
    return x


def _loss(x: Floats, odds: Floats, first: Floats) -> tuple[float, Floats, Floats]:
    """Mean loss with its penalty at (scale, shift), its gradient [2] and Hessian [2, 2]."""
    inner = np.stack([odds, first])
    z = x @ inner
    value = float(np.logaddexp(0.0, -z).mean()) + PENALTY * float(x @ x)
    wrong = 0.5 * (1 - np.tanh(z / 2))  # 1 - sigmoid, without overflow
    gradient = -(inner * wrong).mean(1) + 2 * PENALTY * x
    hessian = (inner * (wrong * (1 - wrong))) @ inner.T / len(odds) + 2 * PENALTY * np.eye(2)
    return value, gradient, hessian


MEASURES = (
    Measure(
        "calibrated_task_loss",
        "calibrated task loss",
        "down",
        "task loss with log odds d' = a·d + b, a > 0, of the first of two answers; a and b are "
        "fitted for each circuit on the discovery pairs",
        "Gao et al. 2025",
        "log odds of two answers",
        calibrated_task_loss,
        unit="nats",
        roles=frozenset({"extra"}),
    ),
)
