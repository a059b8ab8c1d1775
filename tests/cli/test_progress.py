"""Progress: a view on a terminal, lines elsewhere, and no control characters from names."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pyte
import pytest
from support.fake_cells import a_cell, a_method

from harness.cli.live_view import LiveView
from harness.cli.progress import Progress
from harness.progress import Moment
from harness.runs.executors.worker import Event
from harness.runs.plan import Plan

COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?[349][0-7]")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def window(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("COLUMNS", "110"), ("LINES", "24"), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def screen(text: str, columns: int = 110, lines: int = 24) -> list[str]:
    """What a terminal shows after this, without empty lines at its end."""
    emulated = pyte.Screen(columns, lines)
    emulated.set_mode(pyte.modes.LNM)  # what a terminal's driver does: \n returns too
    pyte.Stream(emulated).feed(text)
    rows = [row.rstrip() for row in emulated.display]
    while rows and not rows[-1]:
        rows.pop()
    return rows


def told(stream: io.StringIO) -> str:
    one = a_cell()
    two = replace(a_cell(seed=1), method=a_method("\x1b[31mevil"))
    with Progress(Plan("trial", (one, two)), stream) as progress:
        progress(Event("reused", one.id))
        progress(Event("start", two.id))
        progress(Event("busy", two.id))
        progress(Event("log", two.id, "step 10\x1b[2J"))
        progress(Event("failed", two.id, "why", 1.25))
    return stream.getvalue()


def test_lines_without_a_terminal() -> None:
    lines = told(io.StringIO()).splitlines()
    assert len(lines) == 4
    assert lines[0].endswith("started")
    assert lines[-1].startswith("[2/2]")
    assert lines[-1].endswith("FAILED: why")


def test_a_view_on_a_terminal() -> None:
    rows = screen(told(Terminal()))
    assert rows[-1].startswith(f"trial {'━' * 20} 2/2 cells: 1 done, 1 failed, 0 left; 0 s so far")
    assert rows[-2].endswith("FAILED: why")
    assert len(rows) == 4  # busy, log, failed


@pytest.mark.parametrize("columns", [12, 30, 71, 72, 250])
def test_lines_of_the_view_are_never_broken(
    columns: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = screen(stages(Terminal(), monkeypatch, tmp_path / "run.log"), columns)
    assert sum(row.startswith("t") and " 1/1" in row for row in rows) == 1
    assert not any("/400" in row for row in rows)


def test_more_cells_than_lines_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "8")
    view = LiveView(20, "trial", stream := Terminal())
    for cell in range(9):
        view.start(str(cell), f"cell {cell}")
    rows = screen(stream.getvalue(), lines=8)
    assert rows[1:] == [f"  cell {cell}" for cell in range(5)] + ["  and 4 more are running"]
    view.over("0", "", failed=False)
    view.stage("0", "cell 0", (Moment("late", "step", 2, 1),), "")
    assert "1/20 cells: 1 done, 8 running, 11 left" in screen(stream.getvalue(), lines=8)[0]
    view.close()
    assert len(screen(stream.getvalue(), lines=8)) == 1


def test_a_terminal_that_cannot_move_its_cursor_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert told(Terminal()) == told(io.StringIO())


def test_colours_are_left_out_where_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert COLOUR.search(told(Terminal()))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not COLOUR.search(told(Terminal()))


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_names_do_not_drive_the_terminal(stream: io.StringIO) -> None:
    text = told(stream)
    assert "\x1b[31m" not in text
    assert "\x1b[2J" not in text


def stages(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, log: Path) -> str:
    """A cell that trains for a minute, told of every 15 seconds."""
    now = [0.0]
    monkeypatch.setattr("harness.cli.progress.time.monotonic", lambda: now[0])
    cell = a_cell()
    with Progress(Plan("trial", (cell,)), stream, log, {cell.id: 80.0}) as progress:
        progress(Event("start", cell.id))
        for step in (1, 2, 3, 4):
            now[0] += 15.0
            moment = Moment("training", "step", 400, 100 * step, 0, now[0], f"loss {4 - step}")
            progress(Event("stage", cell.id, stages=(moment,)))
        progress(Event("stage", cell.id))
        progress(Event("done", cell.id, seconds=70.0))
    return stream.getvalue()


def test_long_stages_have_a_line_every_half_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = stages(io.StringIO(), monkeypatch, tmp_path / "run.log").splitlines()
    assert lines == [
        "[0/1] toy eap seed 0: started",
        "[0/1] toy eap seed 0: training: step 200 of 400, loss 2, about 30 s left; "
        "run: about 50 s left",
        "[0/1] toy eap seed 0: training: step 400 of 400, loss 0, about 0 s left; "
        "run: about 20 s left",
        "[1/1] toy eap seed 0: done in 70.0 s",
    ]
    logged = (tmp_path / "run.log").read_text().splitlines()
    assert [line.partition(" ")[2] for line in logged] == lines


def test_on_a_terminal_each_stage_has_a_line_with_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = stages(Terminal(), monkeypatch, tmp_path / "run.log")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    assert "toy eap seed 0: training ━━──────── 100/400, about 45 s left, loss 3" in plain
    assert "0/1 cells: 0 done, 1 running, 0 left; 15 s so far, about 65 s left" in plain
    logged = (tmp_path / "run.log").read_text()
    assert "toy eap seed 0: started" in logged  # though the view shows it
    assert "training: step 200 of 400" in logged
