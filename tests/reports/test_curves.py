"""The figure is written, and what cannot be drawn is said."""

from pathlib import Path

import pytest
from stored import cell_of, stored

from harness.errors import HarnessError
from harness.reports.curves import plot


@pytest.mark.parametrize(("ending", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_a_figure_with_a_panel_per_task(tmp_path: Path, ending: str, magic: bytes) -> None:
    done = [cell_of(m, task=t) for t in ("one", "two") for m in ("best", "control")]
    path = tmp_path / f"curves.{ending}"
    plot(stored(tmp_path / "run", done), path)
    assert path.read_bytes().startswith(magic)


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no finished cell"):
        plot(stored(tmp_path / "run", [], [cell_of("best")]), tmp_path / "x.svg")


def test_an_unknown_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"use one of.*\.svg"):
        plot(stored(tmp_path / "run", [cell_of("best")]), tmp_path / "x.docx")
