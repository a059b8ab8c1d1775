"""The figure is written, and what cannot be drawn is said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.stored_cells import cell_of, stored

from harness.errors import HarnessError
from harness.reports.curves import _panels, band, plot


@pytest.mark.parametrize(("ending", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_a_figure_with_a_panel_per_task(tmp_path: Path, ending: str, magic: bytes) -> None:
    done = [cell_of(m, task=t) for t in ("one", "two") for m in ("best", "control")]
    path = tmp_path / f"curves.{ending}"
    plot(stored(tmp_path / "run", done), path)
    assert path.read_bytes().startswith(magic)


def test_a_control_that_another_run_has_as_a_method_is_one_curve(tmp_path: Path) -> None:
    as_method = replace(cell_of("control"), role="method")
    cells = stored(tmp_path / "a", [as_method, cell_of("best")])
    cells += stored(tmp_path / "b", [cell_of("control", seed=1)])
    ((_, methods),) = _panels(cells)
    assert sorted(methods) == [("control", "control"), ("method", "best")]


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no finished cell"):
        plot(stored(tmp_path / "run", [], [cell_of("best")]), tmp_path / "x.svg")


def test_an_unknown_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"use one of.*\.svg"):
        plot(stored(tmp_path / "run", [cell_of("best")]), tmp_path / "x.docx")


@pytest.mark.parametrize("measure", ["kl", "accuracy", "metric", "logit_diff"])
def test_another_measure(tmp_path: Path, measure: str) -> None:
    """The line is the mean over seeds of what the results say; KL has a logarithmic axis."""
    done = [cell_of("best", seed=seed) for seed in (0, 1)]
    cells = stored(tmp_path / "run", done)
    path = tmp_path / "curves.svg"
    plot(cells, path, measure)
    label = measure.replace("_", " ")
    assert f"<!-- {label} -->" in path.read_text()
    sizes, mean, low, high = band(cells, measure)
    values = [[point[measure]["value"] for point in cell.result["curve"]] for cell in cells]
    assert list(sizes) == [point["size_requested"] for point in cells[0].result["curve"]]
    np.testing.assert_allclose(mean, np.mean(values, axis=0))
    assert (low <= mean + 1e-12).all()
    assert (mean <= high + 1e-12).all()


def test_a_measure_that_no_cell_has(tmp_path: Path) -> None:
    cells = stored(tmp_path / "run", [cell_of("best")])
    with pytest.raises(HarnessError, match=r"'charm'.*faithfulness.*kl"):
        plot(cells, tmp_path / "x.svg", "charm")
