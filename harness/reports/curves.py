"""A measure against circuit size, one panel per task: for exploring and for papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import HarnessError
from harness.metrics import DISTANCES
from harness.reports.comparable import comparable_groups
from harness.reports.resample import bounds, curve_draws, drawable, resample_seeds
from harness.reports.results import sizes_of
from harness.runs.store.record import StoredCell
from harness.spec.printable import printable

# Okabe and Ito's colours, which people with any kind of colour vision can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
LINES = ("-", "-.")  # for a second round of colours
PANEL = (4.6, 3.6)  # inches
LOGARITHMIC = DISTANCES
"""Measures whose small values matter as much as their large ones; 0 cannot be drawn."""


def plot(cells: Sequence[StoredCell], path: Path, measure: str = "faithfulness") -> None:
    """Draw a measure of all finished cells and write the figure; its kind is the path's ending.

    Titles say how many cells are damaged and left out.

    Dotted lines are the empty circuit and the whole model. Raises `HarnessError` without
    matplotlib, without results, for a measure that not all cells have, or for an unknown kind of
    file.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise HarnessError(
            "plotting needs matplotlib: pip install 'circuit-harness[plot]'"
        ) from error
    panels = _panels(cells)
    if not panels:
        raise HarnessError("there is no finished cell to plot")
    _check_measure(cells, measure)
    figure = Figure(figsize=(PANEL[0] * len(panels), PANEL[1]), layout="constrained")
    styles: dict[str, int] = {}
    for index, (title, methods) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        _panel(axes, title, methods, styles, measure)
    _legend(figure)
    supported = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".") not in supported:
        endings = ", ".join(f".{name}" for name in sorted(supported))
        raise HarnessError(f"cannot write {path.name}: use one of {endings}")
    figure.savefig(path, dpi=150)


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
        panels.append((printable(title), methods))
    return panels


def _panel(
    axes: Any,
    title: str,
    methods: Methods,
    styles: dict[str, int],
    measure: str,
) -> None:
    if measure in LOGARITHMIC:
        axes.set_yscale("log")
    for level in levels(methods, measure):
        axes.axhline(level, color="#666666", linewidth=0.8, linestyle=":")
    for (role, method), cells in sorted(methods.items(), reverse=True):
        style = styles.setdefault(method, len(styles))
        colour = "#888888" if role == "control" else COLOURS[style % len(COLOURS)]
        line = "--" if role == "control" else LINES[style // len(COLOURS) % len(LINES)]
        sizes, mean, low, high = band(cells, measure)
        axes.plot(
            sizes,
            mean,
            color=colour,
            marker=MARKERS[style % len(MARKERS)],
            markersize=4,
            linestyle=line,
            label=printable(method),
        )
        axes.fill_between(sizes, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_xscale("log")
    axes.set_xlabel("share of elements kept (requested)")
    axes.set_ylabel(measure.replace("_", " "))
    axes.set_title(title)


def _legend(figure: Any) -> None:
    """One legend beside all panels, which mostly show the same methods."""
    lines: dict[str, Any] = {}
    for axes in figure.axes:
        handles, names = axes.get_legend_handles_labels()
        lines |= dict(zip(names, handles, strict=True))
    figure.legend(lines.values(), lines.keys(), loc="outside right upper", fontsize="small")


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
