"""Results of earlier format versions are read as those of today."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_cells import a_cell, output

from harness.errors import StoreCorrupt
from harness.reports.leaderboard import leaderboard
from harness.reports.rows import rows
from harness.reports.table import render
from harness.runs.plan import Cell, Plan
from harness.runs.store import CellStore
from harness.runs.store.atomic import json_bytes
from harness.runs.store.record import load_cells, record
from harness.runs.store.sealed import seal_folder
from harness.runs.store.versions import upgraded

AGREEMENT = {
    "size": 4,
    "smallest_effect": 0.8,
    "largest_other": 1e-7,
    "auroc": 1.0,
    "average_precision": 1.0,
    "ranked": True,
    "precision": 1.0,
    "recall": 1.0,
    "f1": 1.0,
    "exact": True,
}


def version_1(result: dict[str, Any]) -> dict[str, Any]:
    """A result as version 1 would have written it: edges alone, no plain model."""
    old = {name: value for name, value in result.items() if name not in ("unit", "plain")}
    old["schema_version"] = 1
    old["edges_total"] = old.pop("total")
    old["known"] = old.pop("ground_truth")
    old["curve"] = [
        {
            "edges_requested" if name == "requested" else name: value
            for name, value in point.items()
            if name != "counts"
        }
        for point in old["curve"]
    ]
    old["summary"] = {name: value for name, value in old["summary"].items() if name != "size_at"}
    return old


def published(folder: Path, cell: Cell, agreement: dict[str, Any] | None = None) -> CellStore:
    """A run of one cell with a made-up result."""
    record(folder, Plan(folder.name, (cell,)))
    store, computed = CellStore(folder), output(cell)
    result = {**computed.result, "ground_truth": agreement}
    store.publish(cell.id, replace(computed, result=result), {})
    return store


def rewrite(store: CellStore, cell: Cell, result: dict[str, Any]) -> Path:
    """Put a result in place of the one that was published, with its digest."""
    path = store.cells / cell.id / "result.json"
    path.write_bytes(json_bytes(result))
    seal_folder(path.parent)
    return path


@pytest.mark.parametrize("agreement", [None, AGREEMENT], ids=["no ground truth", "ground truth"])
def test_a_result_of_version_1_is_read_as_one_of_today(
    agreement: dict[str, Any] | None, tmp_path: Path
) -> None:
    cell = a_cell()
    store = published(tmp_path / "run", cell, agreement)
    today = store.result(cell.id)
    old = version_1(today)
    assert old.keys() != today.keys()
    rewrite(store, cell, old)
    assert store.result(cell.id) == {**today, "plain": None}
    assert store.result(cell.id)["summary"]["size_at"] == "grid"
    assert old == version_1(today)  # reading leaves what was read as it is


def test_tables_of_version_1_are_those_of_today(tmp_path: Path) -> None:
    cell = a_cell()
    folder = tmp_path / "run"
    store = published(folder, cell, AGREEMENT)
    before = load_cells(folder)
    rewrite(store, cell, version_1(store.result(cell.id)))
    after = load_cells(folder)
    assert rows(after) == rows(before)
    assert render(leaderboard(after), "github") == render(leaderboard(before), "github")


def test_a_result_of_today_is_not_changed() -> None:
    result = output(a_cell()).result
    assert upgraded(result) is result


@pytest.mark.parametrize("name", ["edges_total", "known", "curve", "summary", "whole"])
def test_a_result_of_version_1_that_lacks_something_is_named(name: str, tmp_path: Path) -> None:
    cell = a_cell()
    store = published(tmp_path / "run", cell)
    old = version_1(store.result(cell.id))
    del old[name]
    path = rewrite(store, cell, old)
    with pytest.raises(StoreCorrupt) as refused:
        store.result(cell.id)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("broken", [{"curve": 3}, {"curve": [{}]}, {"summary": None}])
def test_a_broken_result_of_version_1_is_named(broken: dict[str, Any], tmp_path: Path) -> None:
    cell = a_cell()
    store = published(tmp_path / "run", cell)
    path = rewrite(store, cell, {**version_1(store.result(cell.id)), **broken})
    with pytest.raises(StoreCorrupt, match="is no result") as refused:
        store.result(cell.id)
    assert str(path) in str(refused.value)


def test_an_unknown_version_is_refused(tmp_path: Path) -> None:
    cell = a_cell()
    store = published(tmp_path / "run", cell)
    rewrite(store, cell, {**store.result(cell.id), "schema_version": 3})
    with pytest.raises(StoreCorrupt, match="version 3, and this program reads 1 and 2"):
        store.result(cell.id)
