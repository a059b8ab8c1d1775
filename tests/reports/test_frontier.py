"""The smallest circuits that reach a loss: which count, and ratios with intervals by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.cli.main import main
from harness.errors import HarnessError
from harness.metrics.statistics import geometric_mean
from harness.reports.figures.frontier import _size, plot_frontier
from harness.reports.frontier.smallest import Frontier, frontier
from harness.reports.frontier.tables import text_of
from harness.runs.store import CellStore, ModelStore
from harness.runs.store.record import PlannedCell, StoredCell

Point = tuple[int, int, float]
"""Channels, weights, loss on the test pairs."""


def point(channels: int, weights: int, loss: float) -> dict[str, Any]:
    return {
        "counts": {"channels": channels, "weights": weights},
        "task_loss": {"value": loss},
        "target": {"reached": True, "searched_on": "discovery"},
    }


def cell(
    task: str,
    model: str,
    points: list[Point],
    *,
    method: str = "masks",
    width: int = 8,
    seed: int = 0,
    **changes: Any,
) -> StoredCell:
    """A cell of the model of this width and training seed."""
    training = {"seed": seed, "target": {"metric": "loss", "value": 1 + seed / 10}}
    spec = {"kind": "train", "architecture": {"d_model": width}, "training": training}
    entry = PlannedCell(
        f"{task}{model}{method}", model, task, model, method, "method", 0, None, {"model": spec}
    )
    result = {"curve": [point(*one) for one in points], "whole": {"task_loss": {"value": 0.01}}}
    return StoredCell(entry, "ok", CellStore(Path("absent")), result={**result, **changes})


def grid() -> list[StoredCell]:
    """Two tasks, two arms, two training seeds; one large circuit misses the loss."""
    return [
        cell("quotes", "dense-0", [(9, 80, 0.1)], width=4),
        cell("quotes", "dense-1", [(9, 40, 0.1)], width=4, seed=1),
        cell("quotes", "sparse-0", [(3, 8, 0.15), (3, 20, 0.1)]),
        cell("quotes", "sparse-1", [(2, 5, 0.16), (3, 20, 0.1)], seed=1),
        cell("brackets", "dense-0", [(9, 300, 0.1)], width=4),
        cell("brackets", "dense-1", [(9, 300, 0.2)], width=4, seed=1),
        cell("brackets", "sparse-0", [(3, 10, 0.1)]),
        cell("brackets", "sparse-1", [(3, 10, 0.1)], seed=1),
    ]


def of(cells: list[StoredCell], at: float = 0.15, folder: Path = Path("absent")) -> Frontier:
    return frontier(cells, ModelStore(folder), at)


def test_models_that_differ_in_their_seed_are_an_arm() -> None:
    arms = of(grid()).arms
    assert [(arm.name, arm.models) for arm in arms] == [
        ("dense", ("dense-0", "dense-1")),
        ("sparse", ("sparse-0", "sparse-1")),
    ]


def test_the_smallest_circuit_that_reaches_the_loss_counts() -> None:
    sizes = [one.size for one in of(grid()).circuits]
    assert sizes == [80, 40, 8, 20, 300, None, 10, 10]
    assert [one.size for one in of(grid(), 0.2).circuits][3] == 5


def test_a_circuit_whose_search_missed_its_target_does_not_count() -> None:
    """By luck it has a low loss on the test pairs; the larger one was found."""
    lucky = point(2, 4, 0.1)
    lucky["target"]["reached"] = False
    cells = grid()
    assert cells[2].result is not None
    cells[2].result["curve"].append(lucky)
    assert of(cells).circuits[2].size == 8
    cells[2].result["curve"] = [lucky]
    assert of(cells).circuits[2].size is None
    assert "40 (1/2)" not in text_of(of(cells))
    assert "20 (1/2)" in text_of(of(cells))  # quotes, sparse: one of two seeds
    without_targets = [{**point(2, 4, 0.1), "target": None}]
    assert cells[2].result is not None
    cells[2].result["curve"] = without_targets
    assert of(cells).circuits[2].size == 4


def test_a_figure_has_geometric_means_where_all_cells_reach_the_loss(tmp_path: Path) -> None:
    assert _size(of(grid(), 0.2), "masks", "sparse") == pytest.approx((8 * 5 * 10 * 10) ** 0.25)
    assert _size(of(grid()), "masks", "dense") is None
    path = tmp_path / "f.svg"
    plot_frontier(grid(), ModelStore(tmp_path), path, [0.1, 0.2])
    assert "<!-- sparse -->" in path.read_text()
    with pytest.raises(HarnessError, match="nothing to draw"):
        plot_frontier(grid(), ModelStore(tmp_path), path, [0.01])


def test_ratios_are_of_the_same_task_and_seeds() -> None:
    ratio = of(grid()).between_arms("masks", "dense", "sparse")
    assert ratio is not None
    logs = [math.log(one) for one in (80 / 8, 40 / 20, 300 / 10)]  # without the one that misses
    assert ratio.n == 3
    assert ratio.value == pytest.approx(600 ** (1 / 3))
    low, high = stats.t.interval(0.95, 2, loc=sum(logs) / 3, scale=stats.sem(logs))
    assert (ratio.low, ratio.high) == pytest.approx((math.exp(low), math.exp(high)))


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=9), st.floats(1e-3, 1e3))
def test_a_ratio_turned_round_is_its_inverse(values: list[float], scale: float) -> None:
    one, inverse = geometric_mean(values), geometric_mean([1 / value for value in values])
    assert one.value == pytest.approx(1 / inverse.value)
    assert one.low is not None
    assert inverse.high is not None
    assert one.low == pytest.approx(1 / inverse.high, rel=1e-6)
    scaled = geometric_mean([scale * value for value in values])
    assert scaled.value == pytest.approx(scale * one.value)


def test_methods_are_compared_in_the_same_model() -> None:
    both = [*grid(), cell("quotes", "sparse-0", [(5, 32, 0.1)], method="attribution")]
    ratio = of(both).between_methods("sparse", "attribution", "masks")
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.n) == (pytest.approx(4), None, 1)


def test_joined_methods_are_one_search() -> None:
    """Of each task and model their smallest circuit; where one misses the loss, the other's."""
    low = [cell(**{**one, "method": "low price"}) for one in LOW]
    cells = [*grid(), *low, cell("quotes", "sparse-0", [(1, 1, 0.1)], method="attribution")]
    joined = frontier(cells, ModelStore(Path("absent")), 0.15, ["masks", "low price"])
    assert joined.methods == ("masks + low price", "attribution")
    sizes = {(*one.pair, one.arm): one.size for one in joined.circuits if "+" in one.method}
    alone = {(*one.pair, one.arm): one.size for one in of(grid()).circuits}
    lower = {("quotes", "", 0, 0, "sparse"): 6, ("brackets", "", 1, 0, "dense"): 900}
    assert sizes == {**alone, **lower}
    with pytest.raises(HarnessError, match="no method 'gone' to join; there are masks"):
        frontier(cells, ModelStore(Path("absent")), 0.15, ["masks", "gone"])


LOW: list[dict[str, Any]] = [
    {"task": "quotes", "model": "sparse-0", "points": [(3, 6, 0.1)]},
    {"task": "quotes", "model": "dense-0", "points": [(9, 99, 0.1)], "width": 4},
    {"task": "brackets", "model": "dense-1", "points": [(9, 900, 0.1)], "width": 4, "seed": 1},
    {"task": "brackets", "model": "sparse-1", "points": [(3, 1, 0.2)], "seed": 1},
]


def test_the_tables() -> None:
    text = text_of(of(grid()))
    assert "| quotes          |                      57 |     13 |" in text
    assert "| brackets        |               300 (1/2) |     10 |" in text
    assert "| ratio to sparse | 8.43 (0.286–249), n = 3 |      1 |" in text
    assert text_of(of(grid()), "dense").count("ratio to dense") == 1
    # Two tasks that only one arm has, or solves, are not in the means.
    alone = cell("loops", "sparse-0", [(1, 1, 0.1)])
    mean = "| geometric mean  |                      99 |     11 |"
    assert mean in text
    assert mean in text_of(of([*grid(), alone]))
    unsolved = cell(
        "kwargs", "dense-0", [(9, 9, 0.4)], width=4, whole={"task_loss": {"value": 0.3}}
    )
    assert "| kwargs          |                unsolved |        |" in text_of(
        of([*grid(), unsolved])
    )
    with pytest.raises(HarnessError, match="no arm 'other'; there are dense, sparse"):
        text_of(of(grid()), "other")


def test_what_cannot_be_counted_together_is_refused() -> None:
    without = cell("quotes", "dense-0", [(9, 80, 0.1)], whole={})
    with pytest.raises(HarnessError, match="does not measure task_loss"):
        of([without])
    edges = cell("quotes", "dense-0", [], curve=[{**point(1, 1, 0.1), "counts": {"edges": 4}}])
    with pytest.raises(HarnessError, match="count edges and weights"):
        of([*grid(), edges])
    with pytest.raises(HarnessError, match="no finished cell"):
        of([])


def test_losses_on_the_pairs_of_the_search_are_told_apart() -> None:
    searched = {**point(9, 80, 0.1), "target": {"reached": True}}
    text = text_of(of([cell("quotes", "dense-0", [], curve=[searched])]))
    assert "their losses are not fresh" in text
    assert "not fresh" not in text_of(of(grid()))


def test_the_excess_of_a_model_is_that_of_its_log(tmp_path: Path) -> None:
    models = ModelStore(tmp_path)
    for name, excess in (("dense-0", 0.1), ("sparse-0", 0.2)):
        draft = models.draft(name)
        (draft / "training.json").write_text(f'{{"history": [{{"excess": {excess}}}]}}')
        models.publish(name, draft)
    reached = of([one for one in grid() if one.entry.model.endswith("0")], folder=tmp_path)
    assert [arm.excess for arm in reached.arms] == [{0: 0.1}, {0: 0.2}]
    text = text_of(reached)
    assert "at most 0.1000 nats of excess apart, and 0.000 of task loss (quotes)." in text
    # The dense arm is better trained, the sparse one has the smaller circuits: none has both.
    assert "| dense-0  |                 | 0.1000 | 155 † |" in text
    assert "| sparse-0 |                 | 0.2000 |   9 † |" in text


def test_an_arm_that_another_beats_is_not_on_the_frontier(tmp_path: Path) -> None:
    models = ModelStore(tmp_path)
    cells = []
    for width, (name, excess, size) in enumerate(
        (("small", 0.3, 40), ("middle", 0.2, 50), ("large", 0.1, 40))
    ):
        draft = models.draft(name)
        (draft / "training.json").write_text(f'{{"history": [{{"excess": {excess}}}]}}')
        models.publish(name, draft)
        whole = {"task_loss": {"value": 0.01 * width}}
        cells.append(cell("quotes", name, [(9, size, 0.1)], width=width, whole=whole))
    text = text_of(of(cells, folder=tmp_path))
    rows = [line for line in text.split("Capability")[1].splitlines() if "| 0." in line]
    assert [row.split("|")[-2].strip() for row in rows] == ["40 †", "50", "40"]
    assert "0.2000 nats of excess apart, and 0.020 of task loss (quotes)" in text


def test_an_unknown_run_is_refused(tmp_path: Path) -> None:
    shown = CliRunner().invoke(main, ["frontier", "absent", "--results", str(tmp_path)])
    assert shown.exit_code == 2
    assert "no run 'absent'" in shown.stderr
