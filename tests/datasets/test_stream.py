"""Streams: distinct prompts in the order of drawing, whatever the parts they are drawn in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from harness.datasets import stream
from harness.datasets.rows import Rows, join
from harness.datasets.stream import distinct
from harness.errors import HarnessError


def draws(values: int, seed: int, drawn: list[int]) -> Callable[[int], Rows]:
    """A source of prompts of one token out of `values`; notes what it gave in `drawn`."""
    rng = np.random.default_rng(seed)

    def draw(count: int) -> Rows:
        tokens = rng.integers(values, size=(count, 1))
        drawn.extend(tokens[:, 0].tolist())
        return {"tokens": tokens, "lengths": np.ones(count, dtype=np.int64)}

    return draw


@pytest.mark.parametrize(("values", "n"), [(50, 50), (3000, 1000), (10**9, 400)])
def test_prompts_are_distinct_and_in_the_order_of_drawing(
    values: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "LARGEST_DRAW", 96)  # many parts
    drawn: list[int] = []
    parts = list(distinct(draws(values, 0, drawn), n, "train", at_most=False))
    assert len(parts) > 1
    found = join(parts)["tokens"][:, 0].tolist()
    assert found == list(dict.fromkeys(drawn))[:n]


def test_a_source_that_runs_dry_is_an_error_unless_fewer_will_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "PATIENCE", 2000)
    with pytest.raises(HarnessError, match="has only 20 distinct prompts, 21 were asked for"):
        list(distinct(draws(20, 0, []), 21, "train", at_most=False))
    drawn: list[int] = []
    found = join(list(distinct(draws(20, 0, drawn), 21, "train", at_most=True)))
    assert sorted(found["tokens"][:, 0].tolist()) == list(range(20))
