"""A circuit, or two and their difference, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from harness.circuits.circuit import Circuit
from harness.circuits.drawing.difference import difference
from harness.circuits.drawing.layout import drawing
from harness.circuits.drawing.parts import Drawing
from harness.circuits.drawing.shapes import Scene, scene
from harness.circuits.drawing.svg import SvgPicture, svg


def draw(
    circuit: Circuit,
    other: Circuit | None = None,
    title: str | None = None,
    true: Sequence[str] | None = None,
) -> SvgPicture:
    """SVG of what a circuit keeps; with `other`, of what either keeps, coloured by which.

    `true`: elements of the true circuit, which are told from others; not of a difference. Raises
    `HarnessError` for circuits of different spaces.
    """
    return svg(scene_of(circuit, other, title, true))


def scene_of(
    circuit: Circuit,
    other: Circuit | None = None,
    title: str | None = None,
    true: Sequence[str] | None = None,
) -> Scene:
    """As `draw`, before it is written in a format."""
    if other is None:
        return scene(kept_drawing(circuit, true), title or named(circuit))
    return scene(difference(circuit, other), title or f"{named(circuit)}, and {named(other)}")


def kept_drawing(circuit: Circuit, true: Sequence[str] | None = None) -> Drawing:
    """The kept elements alone, at most those of largest |score|, and true ones that are missing."""
    if circuit.scores is None:
        return drawing(circuit, true)
    scores = circuit.scores.double().where(circuit.kept, torch.nan)
    drawn = drawing(replace(circuit, scores=scores), true)
    unscored = (one if one.kept else replace(one, score=None, width=1.5) for one in drawn.elements)
    return replace(drawn, elements=tuple(unscored))


def named(circuit: Circuit) -> str:
    """`eap on ioi: 73 of 1,234 edges`, as far as its source says."""
    method, task = circuit.source.get("method", "circuit"), circuit.source.get("task")
    on = f" on {task}" if task else ""
    size = f"{circuit.size:,} of {len(circuit.space):,} {circuit.space.unit}"
    return f"{method}{on}: {size}"
