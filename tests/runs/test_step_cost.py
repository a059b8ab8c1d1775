"""[18] What a training step may cost at GPT-2 small's size.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

import pytest

from harness.bench.measure import run_bench
from harness.bench.subject import Bench

ROW = "edge_pruning step"


@pytest.mark.slow
def test_a_step_of_edge_pruning_costs_at_most_five_plain_ones():
    """[18] With the runs of the whole model and of the counterfactual; the README measured 1.1.

    A ratio of medians measured in turns, so that a busy machine slows both sides.
    """
    found = run_bench(Bench(repeats=3), (ROW,))
    (row,) = found["rows"]
    assert row["method"] == ROW
    assert 0 < row["cost_fb"] <= 5, row
    assert row["peak_mib"] > 0
    assert row["seconds"] > 0
