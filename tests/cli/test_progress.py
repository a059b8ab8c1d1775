"""Progress: a bar on a terminal, lines elsewhere, and no control characters from names."""

import io
from dataclasses import replace

import pytest
from support.fake_cells import a_cell, a_method

from harness.cli.progress import Progress
from harness.runs.compute.worker import Event
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
