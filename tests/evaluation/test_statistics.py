"""Intervals against published values and slow definitions."""

from __future__ import annotations

import numpy as np
import pytest

from harness.evaluation.statistics import jackknife_interval, student_t


@pytest.mark.parametrize(
    ("freedom", "published"),
    [(1, 12.7062047), (2, 4.30265273), (4, 2.77644511), (11, 2.20098516), (100, 1.98397152)],
)
def test_students_t(freedom: int, published: float) -> None:
    assert student_t(freedom) == pytest.approx(published, rel=1e-6)


def test_the_jackknife_of_a_mean_is_its_usual_interval() -> None:
    x = np.random.default_rng(0).normal(size=9)
    without = np.array([np.delete(x, i).mean() for i in range(9)])
    half = student_t(8) * x.std(ddof=1) / 3
    assert jackknife_interval(x.mean(), without) == pytest.approx(
        (x.mean() - half, x.mean() + half), abs=1e-12
    )
    assert np.isnan(jackknife_interval(np.nan, without)).all()
