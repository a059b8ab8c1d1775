"""One table with a row per task: circuits, what none reached, and what the model does not solve."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.stored_cells import cell_of, save, stored

from harness.cli.main import main
from harness.reports.leaderboard import Leaderboard, leaderboard
from harness.reports.screens.tasks import tasks_table


@pytest.fixture
def board(tmp_path: Path) -> Leaderboard:
    """Tasks a and b with a method and a control, c that failed."""
    done = [cell_of(m, task) for task in ("a", "b") for m in ("best", "control")]
    return leaderboard(stored(tmp_path / "run", done, [cell_of("best", "c")]))


def with_accuracy(board: Leaderboard, task: str, value: float) -> Leaderboard:
    def changed(one: Any) -> Any:
        measured = {"test": {"accuracy": {"value": value, "low": value, "high": value}}}
        return replace(one, facts={**one.facts, "model_quality": measured})

    boards = [changed(one) if one.task == task else one for one in board.boards]
    return replace(board, boards=tuple(boards))


def table_of(board: Leaderboard) -> tuple[list[list[str]], str]:
    table, legend = tasks_table(board, "github").split("\n\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return [rows[0], *rows[2:]], legend


def test_unsolved_tasks_and_those_without_result_stand_among_the_others(board):
    (heads, *rows), legend = table_of(with_accuracy(board, "b", 0.949))
    assert not any(row[0].startswith("geometric") for row in rows)  # of one task there is none
    assert heads == [
        *("task", "model's accuracy", "edges @10%", "bits", "f ↑", "KL ↓"),
        *("control (control)", "seeds"),
    ]
    cells = {row[0]: dict(zip(heads, row, strict=True)) for row in rows}
    assert list(cells) == ["a", "b", "c"]
    assert cells["a"]["model's accuracy"] == "1.000"
    assert cells["b"]["model's accuracy"] == "0.949 unsolved"
    assert cells["c"]["model's accuracy"] == "no result"
    assert (cells["a"]["edges @10%"], cells["a"]["control (control)"]) == ("20", "20")
    assert cells["a"]["f ↑"].startswith("0.887")
    assert [one for one in cells["c"].values() if one] == ["c", "no result", "0/1 (1 failed)"]
    assert "method best" in legend  # the same in all rows: no column
    assert "accuracy ≥ 0.95 on 1 of 2 tasks" in legend


def test_a_target_that_no_circuit_reached_is_a_dash(board):
    lost = [
        replace(one, lines=tuple(replace(x, size=None, bits=None) for x in one.lines))
        for one in board.boards
    ]
    (heads, *rows), _ = table_of(replace(board, boards=tuple(lost)))
    cells = [dict(zip(heads, row, strict=True)) for row in rows]
    assert [one["edges @10%"] for one in cells] == ["–", "–", ""]  # and no mean below
    assert [one["control (control)"] for one in cells] == ["–", "–", ""]


def test_the_second_size_and_the_measures_of_the_tasks_are_columns(board):
    boards = tuple(
        replace(one, lines=tuple(replace(x, weights=17) for x in one.lines)) for one in board.boards
    )
    (heads, *rows), _ = table_of(replace(board, boards=boards))
    assert [row[heads.index("weights")] for row in rows[:3]] == ["17", "17", "17"]


def sized(board: Leaderboard, sizes: dict[str, int], held: int | None = None) -> Leaderboard:
    """The tasks with these sizes, weights of four times as many, in every line."""

    def changed(one: Any) -> Any:
        size = sizes.get(one.task)
        lines = (replace(x, size=size, weights=size and 4 * size, held=held) for x in one.lines)
        return replace(one, lines=tuple(lines)) if size else one

    return replace(board, boards=tuple(changed(one) for one in board.boards))


def test_sizes_have_geometric_means_over_the_tasks_that_a_circuit_does(board):
    (heads, *rows), _ = table_of(sized(board, {"a": 10, "b": 11}))
    mean = dict(zip(heads, rows[-1], strict=True))
    # By hand: the logarithms are ln 1.1 apart, and t(0.975; 1) is 12.706.
    middle, half = math.sqrt(110), math.exp(12.706 * math.log(1.1) / 2)
    assert mean["task"] == "geometric mean of 2"
    assert mean["edges @10%"] == f"{middle:.0f} ({middle / half:.0f}–{middle * half:.0f})"
    assert mean["weights"].startswith(f"{4 * middle:.0f} (")
    assert mean["KL ↓"] == mean["seeds"] == ""
    unsolved = with_accuracy(sized(board, {"a": 10, "b": 40}), "b", 0.5)
    assert not any(row[0].startswith("geometric") for row in table_of(unsolved)[0])


def test_circuits_that_miss_their_target_on_fresh_pairs_are_marked(board):
    (heads, *rows), legend = table_of(sized(board, {"a": 10, "b": 40}, held=0))
    at = heads.index("edges @10%")
    assert [row[at] for row in rows] == ["10 missed", "40 missed", ""]  # and they are in no mean
    assert "missed marks circuits that do not reach it on fresh pairs" in legend
    (_, *rows), legend = table_of(sized(board, {"a": 10, "b": 40}, held=1))
    assert [row[at] for row in rows][:2] == ["10", "40"]
    assert "missed" not in legend


def test_the_command_prints_it_and_refuses_other_forms(tmp_path):
    save(tmp_path / "run", [cell_of("best", "a")])
    base = ["table", "run", "--results", str(tmp_path), "--by-task"]
    printed = CliRunner().invoke(main, base)
    assert printed.exit_code == 0
    assert printed.output.startswith("| task |")
    for more in (["--full"], ["--wide"], ["--columns", "method"], ["--format", "csv"]):
        assert CliRunner().invoke(main, [*base, *more]).exit_code == 2


def test_a_run_without_results_says_so():
    assert tasks_table(leaderboard([]), "github") == "No results yet.\n"
