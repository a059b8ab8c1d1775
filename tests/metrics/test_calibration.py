"""Calibration of the choice between two answers: what it can mend, and what it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from harness.metrics.calibration import LEAST_SCALE, PENALTY, Calibration, calibrated_task_loss

FIRST = np.array([1.0, -1.0] * 64)


def odds_of(margin: float, bias: float, noise: float, seed: int = 0) -> np.ndarray:
    """Log odds of the good answer, where the first one is preferred by `bias` throughout."""
    draw = np.random.default_rng(seed)
    return margin + bias * FIRST + noise * draw.standard_normal(len(FIRST))


def test_a_preference_for_one_answer_is_mended():
    odds = odds_of(1.0, 5.0, 0.3)
    raw = float(np.logaddexp(0, -odds).mean())
    fitted = Calibration.fit(odds, FIRST)
    assert raw > 1.9
    assert fitted.losses(odds, FIRST).mean() < 0.05
    assert fitted.shift / fitted.scale == pytest.approx(-5.0, abs=0.3)


def test_what_does_not_tell_the_answers_apart_stays_at_chance():
    odds = odds_of(0.0, 3.0, 1.0)
    losses = Calibration.fit(odds, FIRST).losses(odds_of(0.0, 3.0, 1.0, seed=1), FIRST)
    assert losses.mean() == pytest.approx(np.log(2), abs=0.03)


def test_the_wrong_way_round_is_not_turned():
    """A negative scale would: with it a circuit that answers wrong would count as right."""
    fitted = Calibration.fit(odds_of(-3.0, 0.0, 0.5), FIRST)
    assert fitted.scale > 0
    assert fitted.losses(odds_of(-3.0, 0.0, 0.5), FIRST).mean() > 0.69


def test_without_a_shift_a_preference_stays():
    odds = odds_of(1.0, 5.0, 0.3)
    fitted = Calibration.fit(odds, FIRST, shifted=False)
    assert fitted.shift == 0
    assert fitted.losses(odds, FIRST).mean() > 0.6


@settings(max_examples=25, deadline=None)
@given(
    margin=st.floats(-2, 6),
    bias=st.floats(-5, 5),
    noise=st.floats(0.2, 3),
    seed=st.integers(0, 1000),
)
def test_it_is_the_least_loss_that_a_general_optimiser_finds(margin, bias, noise, seed):
    odds = odds_of(margin, bias, noise, seed)

    unit = np.sqrt(np.square(odds).mean())

    def loss(x: np.ndarray) -> float:
        scale = max(x[0], LEAST_SCALE)
        penalty = PENALTY * (scale**2 + x[1] ** 2)
        return calibrated_task_loss(odds, FIRST, scale / unit, x[1]).mean() + penalty

    best = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"maxiter": 4000}).fun
    fitted = Calibration.fit(odds, FIRST)
    assert loss(np.array([fitted.scale * unit, fitted.shift])) <= best + 1e-7


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_unit_of_the_logits_plays_no_part(factor):
    odds = odds_of(1.0, 2.0, 1.0)
    one, other = Calibration.fit(odds, FIRST), Calibration.fit(factor * odds, FIRST)
    np.testing.assert_allclose(one.losses(odds, FIRST), other.losses(factor * odds, FIRST))
