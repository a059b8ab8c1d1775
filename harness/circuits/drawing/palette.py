"""The colours of every figure, page and drawing: those of Okabe and Ito, and darker and lighter.

People with any kind of colour vision can tell the hues apart. Nothing is said by colour alone:
signs are dashed too, lines have markers and their name at the end.
"""

from __future__ import annotations

from collections.abc import Mapping

BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
ORANGE, SKY, BLACK = "#e69f00", "#56b4e9", "#000000"

INK, QUIET, RULE, PANEL, PAPER = "#1b1f24", "#59616b", "#cfd6dd", "#f4f6f8", "#ffffff"
"""Text and outlines; what is less important; grids; backgrounds."""

CONTROL = "#8a9199"
POSITIVE, NEGATIVE = BLUE, "#c44f00"
"""Of scores."""

BOTH, ONE, OTHER = "#4d545c", BLUE, "#c44f00"
"""Of two circuits: elements of both, of the one and of the other alone."""

TRUE, UNTRUE, MISSED = "#00735a", "#c44f00", "#59616b"
"""Of a circuit beside the true one: true elements, others that it has, and what it misses."""

FAMILIES: Mapping[str, tuple[str, ...]] = {
    "attribution": (BLUE, SKY, "#003f73", "#4f86c6"),
    "masks": (VERMILION, ORANGE, "#8c3d00", "#f08a4b"),
    "patching": (GREEN, "#006247", "#55c9a6"),
    "acdc": (PURPLE, "#8a3f6b", "#e3a9c8"),
    "other": (BLACK, "#6f6f6f"),
}
"""Colours of one hue, the first being that of the first method, by family of methods."""

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
"""Of lines that have no family."""
