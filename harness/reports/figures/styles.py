"""How methods look in figures: a hue for each family, and lines and markers within it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.circuits.drawing.palette import CONTROL, FAMILIES
from harness.discovery.registry import built_in
from harness.runs.store.record import StoredCell, method_of

LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX"


@dataclass(frozen=True)
class Style:
    """Colour, line and marker as matplotlib calls them."""

    colour: str
    line: str
    marker: str


GREY = Style(CONTROL, "--", "x")
"""Of controls."""
_CHANCE = Style(CONTROL, ":", "+")


def family_of(kind: str) -> str:
    """The family of a kind of method: the room of the package that it stands in, else `other`."""
    info = built_in().get(kind)
    if info is None or info.method is None:
        return "other"
    room = info.method.__module__.split(".")[2]
    return room if room in (*FAMILIES, "controls") else "other"


def method_styles(cells: Sequence[StoredCell]) -> Mapping[str, Style]:
    """A style for each method; equal sets of methods have equal styles."""
    kinds = {
        cell.entry.method: (method_of(cell.entry) or {}).get("kind", "")
        for cell in cells
        if cell.entry.role != "control"
    }
    used: dict[str, int] = {}
    styles = {}
    for method in sorted(kinds):
        family = family_of(kinds[method])
        if family == "controls":
            styles[method] = _CHANCE
            continue
        at = used[family] = used.get(family, -1) + 1
        hues = FAMILIES[family]
        line = LINES[at // len(hues) % len(LINES)]
        styles[method] = Style(hues[at % len(hues)], line, MARKERS[at % len(MARKERS)])
    return styles
