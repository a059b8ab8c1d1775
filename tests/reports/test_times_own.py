"""How large the circuits of control searches are beside those of the task: what exposes them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.stored_cells import cell_of, stored

from harness.reports.columns import Layout, columns_for, times_own
from harness.reports.leaderboard import Board, Line, leaderboard
from harness.reports.records import record

OWN = {0: 10, 1: 20, 2: None, 3: 7}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    (one,) = leaderboard(stored(tmp_path / "run", [cell_of("best")])).boards
    return one


def with_search(board: Board, sizes: dict[int, Any]) -> tuple[Board, Line]:
    """The board with sizes of its method, and a control search of other sizes."""
    own = next(line for line in board.lines if line.kind == "method")
    control = replace(
        own, kind="control", method="best, nonsense", searched=True, rank=None, by_seed=sizes
    )
    return replace(board, lines=(replace(own, by_seed=OWN), control)), control


def test_the_ratio_is_the_geometric_mean_over_seeds_in_which_both_reach_the_target(board):
    board, control = with_search(board, {0: 40, 1: 20, 2: 5, 3: None})
    assert times_own(board, control) == pytest.approx(2)  # of 4 and 1
    assert times_own(board, board.lines[0]) is None
    assert record(board, control)["times_own"] == pytest.approx(2)


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({0: 25, 1: 50}, "2.5"),
        ({0: None, 1: None}, "missed"),
        ({2: 5}, ""),  # the task's own misses in that seed
        ({}, ""),
    ],
)
def test_the_column_says_it_or_that_the_search_failed(board, sizes, text):
    board, control = with_search(board, sizes)
    columns, _ = columns_for(board, Layout(columns=("method", "times_own")))
    assert [column.text(control) for column in columns] == ["nonsense (control)", text]


def test_searches_keep_the_name_of_their_method_where_there_are_several(board):
    board, control = with_search(board, {})
    board = replace(board, lines=(*board.lines, replace(board.lines[0], method="other")))
    columns, _ = columns_for(board, Layout(columns=("method",)))
    assert columns[0].text(control) == "best, nonsense (control)"


def test_sizes_by_seed_are_those_of_the_results(tmp_path):
    cells = stored(tmp_path / "run", [cell_of("best", seed=0), cell_of("best", seed=1)])
    (one,) = leaderboard(cells, 0.1).boards
    line = next(line for line in one.lines if line.kind == "method")
    expected = {}
    for cell in cells:
        points = [p for p in cell.result["curve"] if p["size_requested"] == one.at_size]
        expected[cell.entry.seed] = points[0]["size"]
    assert line.by_seed == expected == {0: line.size, 1: line.size}
