"""Progress: a bar on a terminal, lines elsewhere, and no control characters from names."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from support.fake_cells import a_cell, a_method

from harness.cli.progress import Progress
from harness.progress import Moment
from harness.runs.executors.worker import Event
from harness.runs.plan import Plan


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


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


def test_a_bar_on_a_terminal() -> None:
    text = told(Terminal())
    assert "trial: 100%" in text
    assert "2/2" in text
    assert "FAILED: why" in text


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


def test_on_a_terminal_each_stage_has_a_bar_with_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = stages(Terminal(), monkeypatch, tmp_path / "run.log")
    assert "toy eap seed 0: training  25%|" in text
    assert "100/400, about 45 s left, loss 3" in text
    assert "about 65 s left" in text  # of the whole run
    logged = (tmp_path / "run.log").read_text()
    assert "toy eap seed 0: started" in logged  # though a bar shows it
    assert "training: step 200 of 400" in logged
