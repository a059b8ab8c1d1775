"""Intervals: those of result.json with one seed, honest ones with several."""

from pathlib import Path

import numpy as np
import pytest
from support.stored_cells import cell_of, stored

from harness.reports.resample import (
    area_draws,
    bounds,
    examples,
    over_seeds,
    resample_seeds,
)


def test_one_seed_gives_the_interval_of_the_result(tmp_path: Path) -> None:
    cell = stored(tmp_path / "run", [cell_of("worse")])[0]
    assert cell.result is not None
    data = examples(cell)
    for name, draws in area_draws(data).items():
        stated = cell.result["summary"][name]
        ours = over_seeds([stated["value"]], [draws])
        assert (ours.value, ours.low, ours.high) == pytest.approx(
            (stated["value"], stated["low"], stated["high"]), abs=1e-12
        )
    point = cell.result["curve"][1]["faithfulness"]
    assert bounds(data.faithfulness_draws[:, 1]) == pytest.approx((point["low"], point["high"]))


def test_seeds_that_disagree_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    near = [rng.normal(0.50, 0.01, 1000) for _ in range(4)]
    far = [near[i] + shift for i, shift in enumerate((-0.3, -0.1, 0.1, 0.3))]
    narrow = over_seeds([0.5] * 4, near)
    wide = over_seeds([0.2, 0.4, 0.6, 0.8], far)
    assert narrow.value == wide.value == pytest.approx(0.5)
    assert narrow.half_width is not None
    assert wide.half_width is not None
    assert wide.half_width > 10 * narrow.half_width
    # About the standard error of the mean of four: 1.96 * 0.2236 / sqrt(4) = 0.22.
    assert wide.half_width == pytest.approx(0.22, abs=0.06)


def test_seeds_are_not_taken_for_more_examples() -> None:
    """The same examples under two seeds: twice the cells, not half the error."""
    draws = np.random.default_rng(0).normal(size=1000)
    once, twice = over_seeds([0.0], [draws]), over_seeds([0.0, 0.0], [draws, draws])
    assert twice == once


def test_an_undefined_seed_makes_the_mean_undefined() -> None:
    draws = np.zeros(1000)
    assert over_seeds([None, 1.0], [draws, draws]).value is None
    undefined = over_seeds([1.0], [np.full(1000, np.nan)])
    assert (undefined.value, undefined.low, undefined.half_width) == (1.0, None, None)


def test_resampling_seeds_is_the_same_each_time() -> None:
    draws = [np.full(1000, float(i)) for i in range(3)]
    np.testing.assert_array_equal(resample_seeds(draws), resample_seeds(draws))
