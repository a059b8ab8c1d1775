"""A measure against circuit size, one panel per task: for exploring and for papers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.circuits.drawing.palette import QUIET, RULE
from harness.errors import HarnessError
from harness.metrics import DISTANCES, MEASURES
from harness.reports.comparable import comparable_groups
from harness.reports.figures.paper import LONGEST, lettering, save, sheet
from harness.reports.figures.styles import GREY, Style, method_styles
from harness.reports.resample import bounds, curve_draws, drawable, resample_seeds
from harness.reports.results import sizes_of, unit_of
from harness.runs.store.record import StoredCell

PANEL = (4.9, 3.5)  # inches
ACROSS = 3
"""Panels in a row."""
FLAT = 0.02
"""Share of the height of a panel within which a curve still does what the empty circuit does."""
BELOW, ABOVE = -0.25, 1.25
"""Faithfulness beyond these is cut off: there circuits do something else."""
LOGARITHMIC = DISTANCES
"""Measures whose small values matter as much as their large ones; 0 cannot be drawn."""


def plot(cells: Sequence[StoredCell], path: Path, measure: str = "faithfulness") -> None:
    """Draw a measure of all finished cells and write the figure; its kind is the path's ending.

    Titles say how many cells are damaged and left out.

    Dotted lines are the empty circuit and the whole model. Raises `HarnessError` without
    matplotlib, without results, for a measure that not all cells have, or for an unknown kind of
    file.
    """
    panels = _panels(cells)
    if not panels:
        raise HarnessError("there is no finished cell to plot")
    _check_measure(cells, measure)
    rows = -(-len(panels) // ACROSS)
    figure = sheet(PANEL[0] * min(len(panels), ACROSS), PANEL[1] * rows)
    styles = method_styles(cells)
    for index, (title, methods) in enumerate(panels):
        axes = figure.add_subplot(rows, min(len(panels), ACROSS), index + 1)
        _panel(axes, title, methods, styles, measure)
    save(figure, path)


def _check_measure(cells: Sequence[StoredCell], measure: str) -> None:
    shared = set.intersection(*(drawable(cell) for cell in cells if cell.result is not None))
    if measure not in shared:
        raise HarnessError(
            f"not all of these cells have kept {measure!r} of every example; all have: "
            f"{', '.join(sorted(shared))}. A task's `evaluation.measures` keep more"
        )


Methods = dict[tuple[str, str], list[StoredCell]]  # by (role, name): a cell per seed


def _panels(cells: Sequence[StoredCell]) -> list[tuple[str, Methods]]:
    panels = []
    for all_cells in comparable_groups(cells):
        group = [cell for cell in all_cells if cell.result is not None]
        if not group:
            continue
        damaged = sum(cell.status == "damaged" for cell in all_cells)
        entry = group[0].entry
        title = entry.task if entry.model == entry.task else f"{entry.task} on {entry.model}"
        if entry.limit is not None:
            title += f" (smoke, limit {entry.limit})"
        if damaged:
            title += f" ({damaged} damaged, left out)"
        methods: Methods = {}
        for cell in group:
            methods.setdefault((cell.entry.role, cell.entry.method), []).append(cell)
        panels.append((lettering(title, 2 * LONGEST), methods))
    return panels


def _panel(
    axes: Any,
    title: str,
    methods: Methods,
    styles: Mapping[str, Style],
    measure: str,
) -> None:
    if measure in LOGARITHMIC:
        axes.set_yscale("log")
    grounds = levels(methods, measure)
    for level in grounds:
        axes.axhline(level, color=QUIET, linewidth=0.8, linestyle=":")
    ends, bands = [], []
    for (role, method), cells in sorted(methods.items()):
        style = GREY if role == "control" else styles[method]
        sizes, mean, low, high = band(cells, measure)
        axes.plot(
            sizes,
            mean,
            color=style.colour,
            marker=style.marker,
            markersize=3.5,
            linewidth=1.5,
            linestyle=style.line,
        )
        axes.fill_between(sizes, low, high, color=style.colour, alpha=0.16, linewidth=0)
        ends.append((lettering(method), style.colour, np.asarray(mean)))
        bands.append((np.asarray(sizes), np.asarray(mean)))
    axes.set_xscale("log")
    if measure == "faithfulness":
        lowest = min((float(mean.min()) for mean in _defined(bands)), default=0.0)
        axes.set_ylim(max(BELOW, min(-0.05, lowest - 0.05)), _top(bands))
    axes.set_xlim(*_range(bands, axes.get_ylim(), grounds[:1], measure in LOGARITHMIC))
    direct_labels(axes, ends)
    first = next(iter(methods.values()))[0]
    axes.set_xlabel(f"share of {unit_of(first.result or {})} kept (requested)")
    axes.set_ylabel(axis_name(measure))
    axes.set_title(title, fontsize="medium", loc="left", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=RULE, linewidth=0.5)


def _defined(bands: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Of each line that has any, the means that are defined."""
    return [mean[np.isfinite(mean)] for _, mean in bands if np.isfinite(mean).any()]


def _top(bands: Sequence[tuple[Any, Any]]) -> float:
    highest = max((float(mean.max()) for mean in _defined(bands)), default=1.0)
    return min(ABOVE, max(1.05, highest + 0.05))


def axis_name(measure: str) -> str:
    """A measure as an axis calls it, with its unit."""
    about = MEASURES.get(measure)
    if about is None:
        return measure.replace("_", " ")
    unit = f" ({about.unit})" if about.unit not in ("", "1") else ""
    return f"{about.title}{unit}"


def _range(
    bands: Sequence[tuple[Any, Any]],
    height: tuple[float, float],
    ground: Sequence[float],
    logarithmic: bool,
) -> tuple[float, float]:
    """The sizes where something happens: from the last at which no curve has left its start.

    All sizes where no level of the empty circuit is defined.
    """
    sizes = np.unique(np.concatenate([one for one, _ in bands]))
    first = 0
    if ground:
        far = FLAT * (height[1] - height[0])
        for at, size in enumerate(sizes):
            here = np.array([mean[one == size][0] for one, mean in bands if (one == size).any()])
            near = (
                np.abs(np.log(np.maximum(here, 1e-12) / max(ground[0], 1e-12))) < 3 * FLAT
                if logarithmic
                else np.abs(here - ground[0]) < far
            )
            if not near.all():
                break
            first = at
    low, high = float(sizes[first]), float(sizes[-1])
    if low == high:
        low = float(sizes[0])
    return low / 1.1, high * 1.1


def direct_labels(axes: Any, ends: Sequence[tuple[str, str, Any]]) -> None:
    """Names of lines at their right, from top to bottom as their means; they do not overlap."""
    ordered = sorted(ends, key=lambda one: (-_height(one[2]), one[0]))
    room = min(0.075, 1 / max(len(ordered), 1))
    for place, (name, colour, _) in enumerate(ordered):
        axes.text(
            1.02,
            0.97 - room * place,
            name,
            color=colour,
            transform=axes.transAxes,
            fontsize="small",
            va="center",
            parse_math=False,
        )


def _height(mean: Any) -> float:
    """The mean of what is defined of a line; below all others if nothing is."""
    defined = mean[np.isfinite(mean)]
    return float(defined.mean()) if len(defined) else -np.inf


def levels(methods: Methods, measure: str) -> list[float]:
    """Mean of the measure, over all cells, of the empty circuits and of the whole models.

    Of distances, which are zero there, not of the whole models.
    """
    results = [cell.result for cells in methods.values() for cell in cells if cell.result]
    ends = ("empty",) if measure in LOGARITHMIC else ("empty", "whole")
    levels = [[result[end][measure]["value"] for result in results] for end in ends]
    # None: faithfulness is not defined where the ablation does not move the metric.
    return [float(np.mean(values)) for values in levels if None not in values]


def band(cells: Sequence[StoredCell], measure: str) -> tuple[Any, Any, Any, Any]:
    """Sizes, mean of the measure over seeds, and its interval over seeds and examples."""
    results = [cell.result for cell in cells if cell.result is not None]
    curves, sizes = [result["curve"] for result in results], sizes_of(results[0])
    values = [[point[measure]["value"] for point in curve] for curve in curves]
    draws = resample_seeds([curve_draws(cell, measure) for cell in cells])
    ends = [bounds(column) for column in draws.T]
    # None (not defined) becomes NaN, which leaves a gap in the drawing.
    low, high = np.array(ends, np.float64).T
    return sizes, np.mean(np.array(values, np.float64), axis=0), low, high
