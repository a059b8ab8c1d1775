"""Agreement with true circuits: means over seeds, one overview table per set of choices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_cells import output
from support.stored_cells import cell_of

from harness.reports.ground_truth import recovery_of
from harness.reports.leaderboard import Board, Line, leaderboard
from harness.reports.recovery_tables import recovery_tables
from harness.reports.table import render
from harness.runs.plan import Plan
from harness.runs.store import CellStore
from harness.runs.store.record import load_cells, record
from harness.spec.types import CHOICES

KNOWN = {
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
WEAK = {**KNOWN, "auroc": 0.5, "average_precision": 0.25, "f1": 0.5, "exact": False}


def result(known: dict[str, Any] | None) -> dict[str, Any]:
    return {"ground_truth": known}


def test_means_over_seeds_and_counts_of_exact_ones() -> None:
    found = recovery_of([result(KNOWN), result(WEAK), result({**WEAK, "auroc": None})])
    assert found is not None
    assert (found.auroc, found.f1) == (0.75, pytest.approx(2 / 3))
    assert (found.exact, found.seeds, found.true_edges) == (1, 3, 4)
    assert recovery_of([result(None)]) is None


def test_the_overview_has_methods_by_mean_auroc_and_tasks_as_columns(tmp_path: Path) -> None:
    cells = {
        ("best", "one"): KNOWN,
        ("worse", "one"): WEAK,
        ("best", "two"): WEAK,
        ("worse", "two"): None,
    }
    folder, store = tmp_path / "run", CellStore(tmp_path / "run")
    planned = [cell_of(method, task) for method, task in cells]
    record(folder, Plan("run", tuple(planned)))
    for cell, known in zip(planned, cells.values(), strict=True):
        made = output(cell)
        store.publish(cell.id, replace(made, result=made.result | {"ground_truth": known}), {})
    board = leaderboard(load_cells(folder))
    (table,) = recovery_tables(board.boards)
    assert table.choices == {}
    assert table.headers == ["method", "one 4/200", "two 4/200", "mean"]
    assert table.lines == [
        ["best", "1.000 (1/1)", "0.500 (0/1)", "0.750"],
        ["worse", "0.500 (0/1)", "", "0.500 (1/2 tasks)"],
    ]
    text = render(board, "github")
    assert "### AUROC on known circuits (seeds that are exact)" in text
    assert "AUROC ↑" in text
    for form in ("latex", "html", "csv", "json"):
        assert "0.75" in render(board, form) or form in ("csv", "json")


def board_of(task: str, limit: int | None = None, **changed: str) -> Board:
    """A board of one method; choices and metric are the usual ones but for those given."""
    usual = dict.fromkeys((*CHOICES, "metric"), "usual") | changed
    facts = {"choices": usual, "metric": usual["metric"], "total": 9}
    line = Line("method", "eap", recovery=recovery_of([result(KNOWN)]))
    return Board(task, task, limit, 0.1, facts, (line,))


@pytest.mark.parametrize("name", [*CHOICES, "metric"])
def test_every_choice_and_the_metric_make_a_table_and_are_named_where_they_differ(
    name: str,
) -> None:
    boards = [board_of("one"), board_of("two", **{name: "other"}), board_of("three")]
    tables = recovery_tables([*boards, board_of("four", limit=2, **{name: "third"})])
    assert [table.choices for table in tables] == [{name: "usual"}, {name: "other"}]
    assert [table.headers[1:-1] for table in tables] == [["one 4/9", "three 4/9"], ["two 4/9"]]
    assert tables[1].title == f"AUROC on known circuits, {name} other (seeds that are exact)"


def test_a_mean_says_over_how_many_tasks_it_is_where_some_are_missing() -> None:
    without_auroc = recovery_of([result({**WEAK, "auroc": None})])
    nothing = replace(board_of("two").lines[0], recovery=without_auroc)
    worse = replace(board_of("two").lines[0], method="worse", recovery=recovery_of([result(WEAK)]))
    boards = [replace(board_of("one"), lines=(*board_of("one").lines, worse)),
              replace(board_of("two"), lines=(nothing, worse))]  # fmt: skip
    (table,) = recovery_tables(boards)
    assert table.lines == [
        ["eap", "1.000 (1/1)", "– (0/1)", "1.000 (1/2 tasks)"],
        ["worse", "0.500 (0/1)", "0.500 (0/1)", "0.500"],
    ]
    (table,) = recovery_tables([replace(boards[0], lines=(nothing,))])
    assert table.lines[0][-1] == "– (0/1 tasks)"


def test_without_true_circuits_no_column_speaks_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    cell = cell_of("best")
    record(folder, Plan("run", (cell,)))
    CellStore(folder).publish(cell.id, output(cell), {})
    board = leaderboard(load_cells(folder))
    assert recovery_tables(board.boards) == []
    assert "AUROC" not in render(board, "github")
