"""Ranks, ties, and who may be ranked at all."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_cells import output
from support.stored_cells import cell_of, stored

from harness.reports.leaderboard import Board, Line, leaderboard, rank
from harness.reports.ranks import mean_ranks
from harness.reports.resample import Estimate
from harness.reports.results import label_of
from harness.runs.plan import Plan
from harness.runs.store import CellStore
from harness.runs.store.record import StoredCell, load_cells, record
from harness.spec.identity import digest

SEEDS = (0, 1)


def line(method: str, value: float | None, low: float | None, high: float | None) -> Line:
    areas = {"cmd": Estimate(value, low, high)}
    return Line("method", method, areas=areas, seeds_done=1, seeds_all=1)


def ranks(*lines: Line) -> dict[str, tuple[int | None, bool]]:
    return {x.method: (x.rank, x.tied) for x in rank(lines)}


def test_methods_with_disjoint_intervals_are_ranked_by_cmd() -> None:
    assert ranks(line("b", 0.5, 0.4, 0.6), line("a", 0.1, 0.0, 0.2)) == {
        "a": (1, False),
        "b": (2, False),
    }


def test_overlap_with_the_best_of_the_group_ties() -> None:
    found = ranks(line("a", 0.1, 0.0, 0.2), line("b", 0.2, 0.15, 0.3), line("c", 0.5, 0.45, 0.55))
    assert found == {"a": (1, True), "b": (1, True), "c": (3, False)}


def test_a_chain_of_overlaps_does_not_tie_its_ends() -> None:
    found = ranks(
        line("a", 0.10, 0.05, 0.15), line("b", 0.14, 0.12, 0.25), line("c", 0.20, 0.18, 0.30)
    )
    assert found == {"a": (1, True), "b": (1, True), "c": (3, False)}


def test_without_an_interval_nothing_is_claimed() -> None:
    assert ranks(line("a", 0.1, None, None), line("b", 0.9, 0.8, 1.0)) == {
        "a": (1, True),
        "b": (1, True),
    }


def test_undefined_and_incomplete_methods_are_not_ranked() -> None:
    incomplete = replace(line("c", 0.0, 0.0, 0.0), seeds_all=2)
    control = replace(line("d", 0.0, 0.0, 0.0), kind="control")
    found = ranks(line("a", 0.1, 0.0, 0.2), line("b", None, None, None), incomplete, control)
    assert found == {"a": (1, False), "b": (None, False), "c": (None, False), "d": (None, False)}


def test_a_board_holds_methods_then_sanity_rows_then_controls(tmp_path: Path) -> None:
    done = [cell_of(m, seed=s) for m in ("worse", "control", "best", "same") for s in SEEDS]
    board = leaderboard(stored(tmp_path / "run", done)).boards[0]
    assert [(x.kind, x.method) for x in board.lines][2:] == [
        ("method", "worse"),
        ("whole", "whole model"),
        ("empty", "empty circuit"),
        ("control", "control"),
    ]
    by_name = {x.method: x for x in board.lines}
    assert by_name["best"].rank == by_name["same"].rank == 1
    assert by_name["best"].tied
    assert by_name["worse"].rank == 3
    assert by_name["control"].rank is None
    assert by_name["worse"].seeds_done == 2
    whole, empty = by_name["whole model"], by_name["empty circuit"]
    assert whole.faithfulness is not None
    assert whole.faithfulness.value == 1
    assert whole.kl is not None
    assert whole.kl.value == 0
    assert whole.size == 200
    assert whole.bits == empty.bits == 0
    assert by_name["best"].size == 20
    assert by_name["best"].bits == pytest.approx(math.log2(math.comb(200, 20)))
    assert empty.faithfulness is not None
    assert empty.faithfulness.value == 0
    assert empty.size == 0


def test_values_are_means_over_seeds_and_sizes_medians(tmp_path: Path) -> None:
    cells = stored(tmp_path / "run", [cell_of("worse", seed=s) for s in (0, 1, 2)])
    found = leaderboard(cells).boards[0].lines[0]
    results = [cell.result for cell in cells if cell.result is not None]
    assert found.areas is not None
    assert found.areas["cmd"].value == pytest.approx(
        sum(r["summary"]["cmd"]["value"] for r in results) / 3
    )
    assert found.reach is not None
    assert found.reach["0.85"] == sorted(r["summary"]["size_at_0.85"] for r in results)[1]
    assert found.size == 20
    assert found.seconds == 1.5


def test_the_stated_size_is_the_nearest_of_the_grid(tmp_path: Path) -> None:
    cells = stored(tmp_path / "run", [cell_of("worse")])
    assert leaderboard(cells, 0.1).boards[0].at_size == 0.1
    assert leaderboard(cells, 0.3).boards[0].at_size == 0.5
    assert leaderboard(cells, 0.003).boards[0].at_size == 0.01


@pytest.mark.parametrize(
    ("share", "asked", "shown"),
    [(0.1, 31, "10%"), (0.034, 10, "3.4%"), (300 / 2048, 300, "300"), (1000 / 12288, 1000, "1000")],
)
def test_a_size_is_told_as_a_round_share_or_as_a_number(
    share: float, asked: int, shown: str
) -> None:
    point = {"target": None, "size_requested": share, "requested": asked}
    assert label_of(point) == shown


def test_failed_and_missing_seeds_mark_the_row_and_keep_it_unranked(tmp_path: Path) -> None:
    done = [cell_of("best"), cell_of("worse"), cell_of("worse", seed=1)]
    failed, missing = [cell_of("best", seed=1)], [cell_of("best", seed=2)]
    board = leaderboard(stored(tmp_path / "run", done, failed, missing)).boards[0]
    by_name = {x.method: x for x in board.lines}
    assert by_name["best"].rank is None
    assert (by_name["best"].seeds_done, by_name["best"].seeds_all) == (1, 3)
    assert by_name["best"].notes == ("1 failed", "1 not run")
    assert by_name["worse"].rank == 1


def test_smoke_cells_are_on_a_board_of_their_own_without_ranks(tmp_path: Path) -> None:
    done = [cell_of("best"), cell_of("best", limit=8), cell_of("worse", limit=8)]
    full, smoke = leaderboard(stored(tmp_path / "run", done)).boards
    assert full.limit is None
    assert full.lines[0].rank == 1
    assert smoke.limit == 8
    assert all(x.rank is None for x in smoke.lines)


def test_versions_of_a_task_never_share_a_board(tmp_path: Path) -> None:
    from support.fake_cells import a_cell, a_method, a_task

    done = [a_cell(a_task(), a_method("a")), a_cell(a_task(version="2"), a_method("b"))]
    assert len(leaderboard(stored(tmp_path / "run", done)).boards) == 2


def test_a_board_without_any_result_still_shows_who_failed(tmp_path: Path) -> None:
    board = leaderboard(stored(tmp_path / "run", [], [cell_of("best")])).boards[0]
    assert board.facts is None
    assert [(x.method, x.rank, x.notes) for x in board.lines] == [("best", None, ("1 failed",))]


def test_mean_rank_over_tasks(tmp_path: Path) -> None:
    done = [cell_of(m, task=t) for t in ("one", "two") for m in ("best", "worse")]
    done.append(cell_of("same", task="one"))
    found = leaderboard(stored(tmp_path / "run", done))
    methods = (("best", 1.0, 2), ("worse", 2.5, 2), ("same", 1.0, 1))
    assert found.mean_ranks == (("edges", methods, 2),)


def test_cells_of_two_runs_count_once(tmp_path: Path) -> None:
    cells = stored(tmp_path / "a", [cell_of("best")]) + stored(tmp_path / "b", [cell_of("best")])
    assert leaderboard(cells).boards[0].lines[0].seeds_all == 1


# ---------------------------------------------------------------- what is not to be mixed
def test_ranks_are_of_the_seeds_that_all_methods_have(tmp_path: Path) -> None:
    """`worse` on seed 0 alone beside `best` on three: both are shown and ranked on seed 0."""
    done = [cell_of("best", seed=s) for s in (0, 1, 2)]
    done += [cell_of("worse"), cell_of("control"), cell_of("control", seed=1)]
    board = leaderboard(stored(tmp_path / "run", done)).boards[0]
    alone = leaderboard(stored(tmp_path / "alone", [cell_of("best"), cell_of("worse")])).boards[0]
    by_name = {x.method: x for x in board.lines}
    for one in alone.lines:
        assert by_name[one.method].areas == one.areas
        assert by_name[one.method].rank == one.rank
    assert [by_name[x].seeds_done for x in ("best", "worse", "control")] == [1, 1, 1]
    assert "All rows are of seed 0; left out: best 1, 2." in board.remarks


def test_methods_without_a_common_seed_are_not_ranked(tmp_path: Path) -> None:
    done = [cell_of("best", seed=0), cell_of("worse", seed=1)]
    board = leaderboard(stored(tmp_path / "run", done)).boards[0]
    assert {x.rank for x in board.lines} == {None}
    assert board.remarks == ("Not ranked: methods have no seed in common (best 0; worse 1).",)


def test_a_method_with_a_missing_seed_does_not_take_it_from_the_others(tmp_path: Path) -> None:
    done = [cell_of(m, seed=s) for m in ("best", "worse") for s in SEEDS] + [cell_of("same")]
    board = leaderboard(stored(tmp_path / "run", done, [cell_of("same", seed=1)])).boards[0]
    by_name = {x.method: x for x in board.lines}
    assert (by_name["best"].rank, by_name["worse"].rank, by_name["same"].rank) == (1, 2, None)
    assert by_name["best"].seeds_done == 2
    assert board.remarks == ()


def test_a_control_that_another_run_has_as_a_method_is_one_control(tmp_path: Path) -> None:
    control = cell_of("control")
    cells = stored(tmp_path / "a", [replace(control, role="method"), cell_of("best")])
    cells += stored(tmp_path / "b", [control, cell_of("control", seed=1)])
    board = leaderboard(cells).boards[0]
    assert [(x.method, x.kind, x.rank) for x in board.lines if x.method == "control"] == [
        ("control", "control", None)
    ]


def test_of_two_versions_of_a_task_the_last_one_ranks(tmp_path: Path) -> None:
    """A changed data file and `--methods a`: the other method's old table is not ranked."""
    from support.fake_cells import a_cell, a_method, a_task

    def cells(version: str, *methods: str) -> list[Any]:
        return [a_cell(a_task(version=version), a_method(m, good=0.9)) for m in methods]

    folder = tmp_path / "run"
    stored(folder, cells("1", "a", "b"))
    old, new = leaderboard(stored(folder, cells("2", "a"))).boards
    assert [x.rank for x in old.lines if x.kind == "method"] == [None]
    assert [x.rank for x in new.lines if x.kind == "method"] == [1]
    assert "Not ranked: the table of another version is newer" in old.remarks[0]
    assert "task.version 1 / 2" in old.remarks[0]
    both = leaderboard(load_cells(folder))
    assert both.mean_ranks == (("edges", (("a", 1.0, 1),), 1),)
    # Asked for once more, the old version is the last one again, though nothing is computed.
    record(folder, Plan("run", tuple(cells("1", "b"))))
    new, old = leaderboard(load_cells(folder)).boards
    assert [x.rank for x in old.lines if x.kind == "method"] == [1]
    assert [x.rank for x in new.lines if x.kind == "method"] == [None]


def test_seeds_of_an_older_version_of_a_method_are_left_out(tmp_path: Path) -> None:
    from support.fake_cells import a_cell, a_method

    folder = tmp_path / "run"
    stored(folder, [a_cell(method=a_method("m", good=0.2), seed=s) for s in SEEDS])
    cells = stored(folder, [a_cell(method=a_method("m", good=0.9), seed=0)])
    line = leaderboard(cells).boards[0].lines[0]
    alone = leaderboard([cell for cell in cells if cell.entry.seed == 0]).boards[0].lines[0]
    assert line.areas == alone.areas
    assert line.notes == ("1 of an older version left out",)


def test_a_task_under_two_ablations_is_one_task(tmp_path: Path) -> None:
    """`best` is first under both, `worse` second: of two tasks in three tables."""
    from support.fake_cells import a_task

    other = replace(a_task().evaluation, ablation="zero")
    methods = ("best", "worse")
    done = [cell_of(m) for m in methods] + [cell_of(m, task="other") for m in methods]
    for method in methods:
        cell = cell_of(method)
        varied = replace(cell.task, spec=replace(cell.task.spec, evaluation=other))
        identity = {**cell.identity, "ablation": "zero"}
        done.append(
            replace(cell, id=digest(identity), identity=identity, task=varied, variant="zero")
        )
    found = leaderboard(stored(tmp_path / "run", done))
    assert len(found.boards) == 3
    assert found.mean_ranks == (("edges", (("best", 1.0, 2), ("worse", 2.0, 2)), 2),)


def test_mean_ranks_are_means_over_tasks_of_means_over_their_tables() -> None:
    def board(task: str, *ranks_of: tuple[str, int], unit: str = "edges") -> Board:
        lines = tuple(replace(line(m, 0.1, 0.1, 0.1), rank=r) for m, r in ranks_of)
        return Board(task, task, None, 0.1, {"unit": unit}, lines)

    boards = [board("a", ("x", 1)), board("a", ("x", 3), ("y", 1)), board("b", ("x", 4))]
    of_edges = (("x", 3.0, 2), ("y", 1.0, 1))
    assert mean_ranks(boards) == (("edges", of_edges, 2),)
    # Places among circuits of channels, of another model, are no places among circuits of edges.
    channels = [board("a", ("x", 7), ("z", 1), unit="channels"), board("c", unit="channels")]
    of_channels = (("z", 1.0, 1), ("x", 7.0, 1))
    assert mean_ranks([*channels, *boards]) == (
        ("channels", of_channels, 1),
        ("edges", of_edges, 2),
    )


# ---------------------------------------------------------------- nothing to explain
def published(folder: Path, metric: float, accuracy: float, method: str = "best") -> StoredCell:
    """A cell whose corruption moves the metric by `metric`, with this accuracy of both."""
    cell = cell_of(method)
    computed = output(cell)
    arrays = dict(computed.tensors["examples.safetensors"])
    arrays["empty/metric"] = arrays["whole/metric"] - metric
    result = dict(computed.result)
    value = {**result["whole"]["accuracy"], "value": accuracy, "se": 0.0}
    result["whole"] = {**result["whole"], "accuracy": value}
    result["empty"] = {**result["empty"], "accuracy": value}
    record(folder, Plan("run", (cell,)))
    tensors = {**computed.tensors, "examples.safetensors": arrays}
    CellStore(folder).publish(cell.id, replace(computed, result=result, tensors=tensors), {})
    return load_cells(folder)[-1]


@pytest.mark.parametrize(
    ("metric", "accuracy", "reason"),
    [
        (0.0, 1.0, "the model's logit_diff is that of the empty circuit"),
        (0.006, 1.0, "the model's accuracy is not above the empty circuit's"),
        (0.5, 0.1, "the model's accuracy is not above the empty circuit's"),
        (2.0, 1.0, ""),
    ],
)
def test_a_task_whose_corruption_changes_nothing_is_not_ranked(
    tmp_path: Path, metric: float, accuracy: float, reason: str
) -> None:
    cells = [published(tmp_path / m, metric, accuracy, m) for m in ("best", "worse")]
    found = leaderboard(cells)
    board = found.boards[0]
    ranked = {x.rank for x in board.lines if x.kind == "method"}
    assert (ranked == {None}) == bool(reason)
    assert bool(found.mean_ranks) == (not reason)
    assert any(reason in text for text in board.remarks) == bool(reason)
    assert board.verdict is not None
    assert board.verdict.moved == pytest.approx(metric)


# ---------------------------------------------------------------- circuits of a method's own
def settled(folder: Path, good: float, by_score: float) -> list[StoredCell]:
    """`best`, and a method whose own circuits are as faithful as `good` and `by_score` say."""
    record(folder, Plan("run", (cell := cell_of("settles"), other := cell_of("best"))))
    own, cut = output(cell, good=good), output(cell, good=by_score)
    arrays = dict(own.tensors["examples.safetensors"])
    of_cut = cut.tensors["examples.safetensors"]
    arrays |= {
        name.replace("curve", "by_score"): x for name, x in of_cut.items() if "curve" in name
    }
    part = {"circuits": 8, "arrays": "by_score"} | {
        name: cut.result[name] for name in ("curve", "summary")
    }
    store = CellStore(folder)
    tensors = {**own.tensors, "examples.safetensors": arrays}
    result = own.result | {"settled": part}
    store.publish(cell.id, replace(own, result=result, tensors=tensors), {})
    store.publish(other.id, output(other), {})
    return load_cells(folder)


def test_a_row_cut_from_scores_stands_beside_circuits_of_a_methods_own(tmp_path: Path) -> None:
    """Ranked is what can be compared: ten sizes cut from scores, like those of others."""
    cells = settled(tmp_path, good=0.5, by_score=0.99)
    board = leaderboard(cells).boards[0]
    by_name = {x.method: x for x in board.lines}
    own, cut, best = by_name["settles"], by_name["settles by score"], by_name["best"]
    assert (own.rank, cut.rank, best.rank) == (None, 1, 2)
    result = cells[0].result
    assert result is not None
    for one, part in ((own, result), (cut, result["settled"])):
        assert one.areas is not None
        stored_cmd = part["summary"]["cmd"]
        assert one.areas["cmd"].value == stored_cmd["value"]
        assert (one.areas["cmd"].low, one.areas["cmd"].high) == pytest.approx(
            (stored_cmd["low"], stored_cmd["high"])
        )
    (remark,) = board.remarks
    assert remark.startswith("settles: its areas are of the 8 circuits that it settled on")
    assert "settles by score is cut from its scores" in remark


def test_rows_have_both_kinds_of_circuits(tmp_path: Path) -> None:
    from harness.reports.rows import rows

    cells = settled(tmp_path, good=0.5, by_score=0.99)
    names = [row["method"] for row in rows(cells)]
    assert names == ["settles"] * 4 + ["settles by score"] * 4 + ["best"] * 4
    cmd = {row["method"]: row["cmd"] for row in rows(cells)}
    assert cmd["settles by score"] < cmd["best"] < cmd["settles"]


# ---------------------------------------------------------------- cost
def timed(folder: Path, **timing: float) -> Line:
    cell = cell_of("best")
    computed = output(cell)
    record(folder, Plan("run", (cell,)))
    CellStore(folder).publish(cell.id, replace(computed, timing=timing), {})
    return leaderboard(load_cells(folder)).boards[0].lines[0]


@pytest.mark.parametrize(
    ("cost", "wall", "busy"),
    [
        (2.4, 23.0, True),
        (2.4, 3.0, False),
        (5.0, 1.0, True),
        (0.01, 0.2, False),
        (2.4, None, False),
    ],
)
def test_costs_by_wall_and_processor_time_that_differ_much_are_marked(
    tmp_path: Path, cost: float, wall: float | None, busy: bool
) -> None:
    timing = {"cost_fb": cost} | ({} if wall is None else {"cost_fb_wall": wall})
    found = timed(tmp_path, **timing)
    assert (found.cost_fb, found.cost_fb_wall, found.busy) == (cost, wall, busy)
