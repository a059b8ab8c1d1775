"""The live view in a real terminal: pseudo-terminals, read by a terminal emulator."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.live_run import WHY
from support.window import Window

pytestmark = pytest.mark.slow  # each starts processes of its own

CTRL_C = b"\x03"
HIDDEN, SHOWN = b"\x1b[?25l", b"\x1b[?25h"
RUN = ["-m", "support.live_run"]
ROOT = Path(__file__).resolve().parents[2]


def opened(folder: Path, columns: int = 110, lines: int = 24, jobs: int = 2, **more: str) -> Window:
    paths = f"{ROOT}:{ROOT / 'tests'}"
    return Window([*RUN, str(folder), str(jobs)], columns, lines, {"PYTHONPATH": paths, **more})


def both_run(window: Window) -> bool:
    return sum("training" in row and "100/400" in row for row in window.rows) == 2


def flat(window: Window) -> str:
    """The screen's text with the lines joined that the terminal broke."""
    return "".join(row.ljust(window.screen.columns) for row in window.screen.display)


def is_clean(window: Window) -> bool:
    """The cursor is shown, below all text and at the beginning of a line."""
    shown = window.written.rfind(SHOWN) > window.written.rfind(HIDDEN) > -1
    cursor = window.screen.cursor
    return shown and not cursor.hidden and (cursor.x, cursor.y) == (0, len(window.rows))


def test_two_cells_are_seen_at_work_and_gone_at_the_end(tmp_path: Path) -> None:
    with opened(tmp_path) as window:
        window.until(both_run)
        *above, run, one, two = window.rows
        assert re.fullmatch(
            r"trial [━─]{20} 2/4 cells: 1 done, 1 failed, 2 running, 0 left; \d+ s so far.*", run
        )
        assert run.count("━") == 10
        for row in (one, two):
            assert re.fullmatch(
                r"  (one|two) slow seed 0: training ━━──────── 100/400, about .* left, loss 3", row
            )
        assert {row.split()[0] for row in (one, two)} == {"one", "two"}
        assert above[0] == "4 cells to compute"
        (tmp_path / "go").touch()
        assert window.finish() == 0
        assert window.rows[-2].startswith(f"trial {'━' * 20} 4/4 cells: 3 done, 1 failed, 0 left;")
        assert window.rows[-1] == "that is all"
        assert not any("100/400" in row for row in window.rows)
        assert is_clean(window)
        assert window.colours


def test_failures_stay_readable_above(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with opened(tmp_path, columns=60) as window:
        assert window.finish() == 0
        assert f"four broken seed 0: FAILED: RuntimeError: {WHY.strip()}" in flat(window)
        assert window.rows[-1] == "that is all"
        assert is_clean(window)


def test_names_do_not_drive_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with opened(tmp_path, jobs=1) as window:
        window.finish()
        assert window.rows[0] == "4 cells to compute"  # the screen was not cleared
        assert any("evil\\x1b[2J\\x1b[31m seed 0: done in" in row for row in window.rows)
        assert b"\x1b[2J" not in window.written
        assert "red" not in {window.screen.buffer[y][0].fg for y in range(len(window.rows))}


@pytest.mark.parametrize(("columns", "lines"), [(24, 12), (40, 5), (200, 50)])
def test_no_line_of_the_view_is_broken(tmp_path: Path, columns: int, lines: int) -> None:
    """A second line would be left behind when the view is drawn again."""
    with opened(tmp_path, columns, lines) as window:
        window.until(lambda window: any("training" in row or "slow" in row for row in window.rows))
        window.until(lambda window: "2 r" in flat(window) or "2/4" in flat(window))
        (tmp_path / "go").touch()
        window.finish()
        assert sum(row.startswith("trial ") for row in window.rows) == 1
        assert not any("100/400" in row for row in window.rows)
        assert is_clean(window)


def test_a_window_that_grows_and_shrinks_is_followed(tmp_path: Path) -> None:
    with opened(tmp_path, 110, 24) as window:
        window.until(both_run)
        window.resize(150, 30)
        window.resize(50, 30)
        window.until(lambda window: any(row.startswith("trial 2/4 cells") for row in window.rows))
        assert all(len(row) <= 50 for row in window.rows)
        (tmp_path / "go").touch()
        window.finish()
        assert window.rows[-2].startswith("trial 4/4 cells: 3 done")
        assert window.rows[-1] == "that is all"
        assert is_clean(window)


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_leaves_the_terminal_clean(tmp_path: Path, jobs: int) -> None:
    with opened(tmp_path, jobs=jobs) as window:
        window.until(lambda window: sum("100/400" in row for row in window.rows) == jobs)
        window.press(CTRL_C)
        assert window.finish() == 0
        stopped = [row for row in window.rows if "stopped in training at step 100 of 400" in row]
        assert len(stopped) == jobs
        assert not any("100/400" in row for row in window.rows)
        assert window.rows[-1] == "that is all"
        assert is_clean(window)


def test_no_color_is_honoured(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with opened(tmp_path, NO_COLOR="1") as window:
        window.finish()
        assert window.rows[-1] == "that is all"
        assert not window.colours


def test_a_dumb_terminal_has_lines(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with opened(tmp_path, TERM="dumb") as window:
        window.finish()
        assert b"\x1b" not in window.written
        assert [row for row in window.rows if row.startswith("[4/4]")]
