"""Scenes of circuits painted by matplotlib, for formats other than SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.circuits.drawing.shapes import Box, Curve, Scene, TextLabel
from harness.circuits.drawing.svg import svg
from harness.disk import write
from harness.reports.figures.paper import save, sheet

PIXELS = 100
"""In an inch."""
POINTS = 72 / PIXELS


def save_scene(scene: Scene, path: Path) -> None:
    """Write a circuit as .svg, .png or .pdf. Raises `HarnessError` for another ending."""
    if path.suffix == ".svg":
        write(path, svg(scene).encode())
        return
    figure = sheet(scene.width / PIXELS, scene.height / PIXELS)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, scene.width), ylim=(scene.height, 0))
    axes.axis("off")
    for order, shape in enumerate(scene.shapes):
        _paint(axes, shape, order)
    save(figure, path)


def _paint(axes: Any, shape: Box | Curve | TextLabel, order: int) -> None:
    from matplotlib.patches import FancyBboxPatch, PathPatch
    from matplotlib.path import Path as Outline

    match shape:
        case Box(x, y, width, height, fill, colour, dashed):
            box = FancyBboxPatch(
                (x, y), width, height, boxstyle="round,pad=0,rounding_size=4", zorder=order
            )
            box.set(facecolor=fill, edgecolor=colour, linestyle="--" if dashed else "-")
            axes.add_patch(box)
        case Curve(points, colour, width, dashed):
            codes = [Outline.MOVETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4]
            patch = PathPatch(Outline(points, codes), facecolor="none", zorder=order)
            patch.set(edgecolor=colour, linewidth=width * POINTS, alpha=0.8)
            patch.set_linestyle((0, (5, 2)) if dashed else "-")
            axes.add_patch(patch)
        case TextLabel(x, y, text, colour, size, anchor, bold):
            side = {"start": "left", "middle": "center", "end": "right"}[anchor]
            look: dict[str, Any] = {"color": colour, "fontsize": size * POINTS, "zorder": order}
            weight = "bold" if bold else "normal"
            axes.text(x, y, text, ha=side, weight=weight, parse_math=False, **look)
