"""Result rows: a public contract."""

from pathlib import Path

import polars as pl
from stored import cell_of, stored

from harness.reports.rows import COLUMNS, frame, rows, write_parquet

CONTRACT = (
    "task, model, method, granularity, ablation, seed, n_examples, edges_total, size, sparsity, "
    "kl, logit_diff, accuracy, faithfulness, cpr, cmd, auroc, seconds, peak_mib, cost_fb, status, "
    "cell"
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
