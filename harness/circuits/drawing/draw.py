"""A circuit, or two and their difference, as one picture."""

from __future__ import annotations

from dataclasses import replace

import torch

from harness.circuits.circuit import Circuit
from harness.circuits.drawing.difference import difference
from harness.circuits.drawing.layout import Drawing, drawing
from harness.circuits.drawing.shapes import Scene, scene
from harness.circuits.drawing.svg import SvgPicture, svg


def draw(circuit: Circuit, other: Circuit | None = None, title: str | None = None) -> SvgPicture:
    """SVG of what a circuit keeps; with `other`, of what either keeps, coloured by which.

    Raises `HarnessError` for circuits of different spaces.
    """
    return svg(scene_of(circuit, other, title))


def scene_of(circuit: Circuit, other: Circuit | None = None, title: str | None = None) -> Scene:
    """As `draw`, before it is written in a format."""
    if other is None:
        return scene(kept_drawing(circuit), title or named(circuit))
    return scene(difference(circuit, other), title or f"{named(circuit)}, and {named(other)}")


def kept_drawing(circuit: Circuit) -> Drawing:
    """The kept elements alone: at most those of largest |score|."""
    if circuit.scores is None:
        return drawing(circuit)
    scores = circuit.scores.double().where(circuit.kept, torch.nan)
    return drawing(replace(circuit, scores=scores))


def named(circuit: Circuit) -> str:
    """`eap on ioi: 73 of 1,234 edges`, as far as its source says."""
    method, task = circuit.source.get("method", "circuit"), circuit.source.get("task")
    on = f" on {task}" if task else ""
    size = f"{circuit.size:,} of {len(circuit.space):,} {circuit.space.unit}"
    return f"{method}{on}: {size}"
