"""The figure is written, and what cannot be drawn is said."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.stored_cells import cell_of, stored
from support.stored_pages import circuit_of

from harness.circuits.drawing.draw import scene_of
from harness.errors import HarnessError
from harness.metrics import MEASURES
from harness.reports.curves import _panels, _range, band, plot
from harness.reports.figures.painted import save_scene
from harness.reports.figures.pareto import front, plot_pareto
from harness.reports.figures.styles import GREY, family_of, method_styles


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
    label = MEASURES[measure].title if measure in MEASURES else measure
    assert f"<!-- {label}" in path.read_text()
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


def test_equal_results_give_equal_figures(tmp_path: Path) -> None:
    cells = stored(tmp_path / "run", [cell_of("best"), cell_of("control")])
    for draw in (plot, plot_pareto):
        for name in ("a.svg", "b.svg"):
            draw(cells, tmp_path / name)
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_names_in_figures_are_text(tmp_path: Path) -> None:
    evil = "<script>$\\frac{1}$\x1b\u202e"
    cells = stored(tmp_path / "run", [cell_of("best", task=evil), cell_of("$x_", task=evil)])
    for draw in (plot, plot_pareto):
        draw(cells, tmp_path / "x.svg")
        text = (tmp_path / "x.svg").read_text()
        assert not {"\x1b", "\u202e"} & set(text)
        assert "<script" not in text
        ElementTree.fromstring(text)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1))
def test_no_point_beats_one_of_the_front_in_both(points: list[tuple[float, float]]) -> None:
    steps = front(points)
    for x, y in points:
        beaten = any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)
        assert ((x, y) in steps) == (not beaten)


def test_the_range_begins_where_a_curve_leaves_the_empty_circuit() -> None:
    sizes = np.array([0.001, 0.01, 0.1, 1.0])
    curves = [(sizes, np.array([0, 0, 0.001, 1])), (sizes, np.array([0, 0, 0.5, 1]))]
    low, high = _range(curves, (0, 1), [0.0], False)
    assert (low, high) == pytest.approx((0.01 / 1.1, 1.1))
    assert _range(curves, (0, 1), [], False)[0] == pytest.approx(0.001 / 1.1)


def test_families_have_a_hue_and_controls_are_grey(tmp_path: Path) -> None:
    kinds = ("eap", "edge_pruning", "activation_patching", "acdc", "random", "nothing")
    families = ["attribution", "masks", "patching", "acdc", "controls", "other"]
    assert [family_of(kind) for kind in kinds] == families
    names = [f"m{number}" for number in range(9)]
    styles = method_styles(stored(tmp_path / "run", [cell_of(name) for name in names]))
    assert len(set(styles.values())) == len(names)
    assert GREY not in styles.values()


@pytest.mark.parametrize(
    ("ending", "magic"), [("svg", b"<svg"), ("png", b"\x89PNG"), ("pdf", b"%PDF")]
)
def test_circuits_are_painted_in_every_format(tmp_path: Path, ending: str, magic: bytes) -> None:
    path = tmp_path / f"c.{ending}"
    save_scene(scene_of(circuit_of(0), circuit_of(1)), path)
    assert path.read_bytes().startswith(magic)
