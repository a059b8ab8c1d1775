"""Result rows: a public contract."""

import csv
import io
import json
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.fake_cells import a_cell, a_task
from support.stored_cells import cell_of, stored

from harness.discovery.registry import built_in, make_method
from harness.reports.columns import Layout
from harness.reports.leaderboard import leaderboard
from harness.reports.records import as_data
from harness.reports.rows import COLUMNS, columns_of, frame, rows, write_parquet
from harness.reports.table import WIDE, render, render_rows
from harness.spec.load import Library

CONTRACT = (
    "task, model, method, granularity, ablation, seed, n_examples, unit, total, size, bits, "
    "sparsity, kl, logit_diff, accuracy, faithfulness, cpr, cmd, auroc, seconds, peak_mib, "
    "cost_fb, status, cell, variant, n_discovery, max_pairs_drawn, requested, target, reached, "
    "cost_fb_wall, weights"
)


def test_columns_are_those_promised() -> None:
    assert ", ".join(COLUMNS) == CONTRACT


def test_one_row_per_cell_and_size(tmp_path: Path) -> None:
    done = [cell_of("best"), cell_of("worse", seed=1)]
    found = rows(stored(tmp_path / "run", done))
    assert len(found) == 2 * 4
    first = found[0]
    assert list(first) == list(COLUMNS)
    assert (first["task"], first["method"], first["status"]) == ("toy", "best", "ok")
    assert [row["size"] for row in found[:4]] == [2, 20, 100, 200]
    assert found[3]["faithfulness"] == 1.0
    wanted = [math.log2(math.comb(200, n)) for n in (2, 20, 100, 200)]
    assert [row["bits"] for row in found[:4]] == pytest.approx(wanted)
    assert first["auroc"] is None
    assert first["cost_fb"] == 1.05
    assert len({row["cmd"] for row in found[:4]}) == 1


def test_rows_say_exactly_what_the_results_say(tmp_path: Path) -> None:
    cells = stored(tmp_path / "run", [cell_of("best")])
    result = cells[0].result
    assert result is not None
    for row, point in zip(rows(cells), result["curve"], strict=True):
        for name in ("kl", "accuracy", "faithfulness"):
            assert row[name] == point[name]["value"]
        assert row["logit_diff"] == point["metric"]["value"]
        assert row["cmd"] == result["summary"]["cmd"]["value"]


def test_evaluations_of_one_suite_are_told_apart(tmp_path: Path) -> None:
    """By what tables call them, and by the pairs that were given."""
    pairs = {"discovery_pairs 8": 8, "discovery_pairs 16": 16}
    done = [
        a_cell(
            a_task(evaluation=replace(a_task().evaluation, discovery_pairs=n)),
            cell_of("best").method,
            variant=variant,
        )
        for variant, n in pairs.items()
    ]
    cells = stored(tmp_path / "run", done, [replace(cell_of("worse"), variant="metric x")])
    found = rows(cells)
    for cell in cells[:2]:
        assert cell.result is not None
        assert cell.result["n_discovery"] == pairs[cell.entry.variant]
    told = {row["cell"]: (row["variant"], row["n_discovery"]) for row in found}
    assert set(told.values()) == {*pairs.items(), ("metric x", None)}
    assert {row["variant"] for row in rows(stored(tmp_path / "own", [cell_of("best")]))} == {""}


def test_learned_masks_say_how_many_pairs_they_draw(tmp_path: Path) -> None:
    """A training can be over long before all of its pairs have come once."""
    library = Library()
    for name in ("edge_pruning", "edge_pruning_sparse", "subnetwork_probing"):
        method = library.method(name).spec
        cell = a_cell(method=method)
        (row, *_) = rows(stored(tmp_path / name, [cell]))
        assert row["max_pairs_drawn"] == method.params["steps"] * method.params["batch_size"]
    assert library.method("edge_pruning_sparse").spec.params["steps"] * 8 == 4800
    for name in ("eap", "mask_gradient_ig", "acdc"):
        cell = a_cell(method=library.method(name).spec)
        (row, *_) = rows(stored(tmp_path / name, [cell]))
        assert row["max_pairs_drawn"] is None
    trained = {
        kind
        for kind in built_in()
        if "batch_size" in {one.name for one in fields(make_method(kind, {}))}
    }
    assert trained == {kind for kind, info in built_in().items() if info.trains_masks}


def chosen(*names: str) -> Any:
    evaluation = replace(a_task().evaluation, measures=names)
    return a_cell(a_task("years", evaluation=evaluation), cell_of("best").method)


def test_measures_that_a_task_adds_are_columns_behind_the_others(tmp_path: Path) -> None:
    cells = stored(tmp_path / "run", [cell_of("best"), chosen("kendall_tau", "agreement")])
    found = rows(cells)
    assert list(columns_of(cells)) == [*COLUMNS, "kendall_tau", "agreement"]
    assert all(list(row) == list(columns_of(cells)) for row in found)
    assert {row["kendall_tau"] for row in found if row["task"] == "toy"} == {None}
    result = cells[1].result
    assert result is not None
    years = [row for row in found if row["task"] == "years"]
    for row, point in zip(years, result["curve"], strict=True):
        assert row["kendall_tau"] == point["kendall_tau"]["value"]
        assert row["agreement"] == point["agreement"]["value"]
    assert frame(cells).schema["kendall_tau"] == pl.Float64
    header = render_rows(cells, "csv").splitlines()[0]
    assert header == CONTRACT.replace(" ", "") + ",kendall_tau,agreement"
    assert columns_of(cells[:1]) == COLUMNS


def test_the_leaderboard_has_them_at_the_stated_size(tmp_path: Path) -> None:
    cells = stored(tmp_path / "run", [chosen("prob_diff_10", "agreement"), cell_of("best")])
    board = leaderboard(cells)
    text = render(board, "github")
    assert "| ±10 probability difference @10% ↑ | agreement @10% ↑ |" in " ".join(text.split())
    result = cells[0].result
    assert result is not None
    line = next(one for one in board.boards[0].lines if one.kind == "method")
    point = result["curve"][1]["prob_diff_10"]
    found = line.chosen["prob_diff_10"]
    assert found.value == point["value"]
    assert (found.low, found.high) == pytest.approx((point["low"], point["high"]), abs=1e-2)
    whole = next(one for one in board.boards[0].lines if one.kind == "whole")
    assert whole.chosen["agreement"].value == result["whole"]["agreement"]["value"]
    data = json.loads(render(board, "json"))["boards"]
    assert data[0]["lines"][0]["prob_diff_10"] == point["value"]
    assert "prob_diff_10" not in data[1]["lines"][0]
    lines = list(csv.DictReader(io.StringIO(render(board, "csv"))))
    assert {line["prob_diff_10"] == "" for line in lines if line["task"] == "toy"} == {True}
    assert {line["prob_diff_10"] == "" for line in lines if line["task"] == "years"} == {False}


def test_cells_without_result_have_one_row_of_nulls(tmp_path: Path) -> None:
    cells = stored(tmp_path / "run", [], [cell_of("best")], [cell_of("worse")])
    assert [row["status"] for row in rows(cells)] == ["failed", "missing"]
    assert rows(cells)[0]["cmd"] is None


def test_smoke_cells_say_so(tmp_path: Path) -> None:
    assert {
        row["status"] for row in rows(stored(tmp_path / "run", [cell_of("best", limit=8)]))
    } == {"smoke"}


def test_frame_keeps_types_when_a_column_is_empty(tmp_path: Path) -> None:
    table = frame(stored(tmp_path / "run", [], [cell_of("best")]))
    assert table.columns == list(COLUMNS)
    assert table.schema["cmd"] == pl.Float64
    assert table.schema["size"] == pl.Int64
    assert frame([]).columns == list(COLUMNS)


def test_parquet_reads_back(tmp_path: Path) -> None:
    cells = stored(tmp_path / "run", [cell_of("best")], [cell_of("worse")])
    write_parquet(cells, tmp_path / "rows.parquet")
    assert pl.read_parquet(tmp_path / "rows.parquet").equals(frame(cells))


def test_circuits_of_channels_have_a_second_size(tmp_path: Path) -> None:
    """Weights between channels: in rows, in records, and in a column where a line has them."""
    cells = stored(tmp_path / "run", [cell_of("best"), cell_of("best", seed=1), cell_of("worse")])
    assert {row["weights"] for row in rows(cells)} == {None}
    assert "weights" not in render(leaderboard(cells), "github", WIDE)
    for number, cell in enumerate(cells):
        for point in cell.result["curve"]:
            point["counts"] = {"channels": point["size"], "weights": 7 * point["size"] + number}
    assert [row["weights"] for row in rows(cells[:1])] == [14, 140, 700, 1400]
    board = leaderboard(cells)
    lines = {line.method: line.weights for line in board.boards[0].lines}
    assert lines == {"best": 140, "worse": 142, "whole model": None, "empty circuit": None}
    for layout in (Layout(), WIDE):
        text = " ".join(render(board, "github", layout).split())
        assert "| weights @10% | f @10% ↑ |" in text
        assert "| 140 |" in text
    (records,) = (one["lines"] for one in as_data(board)["boards"])
    assert {one["weights"] for one in records} == {140, 142, None}
