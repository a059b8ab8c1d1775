"""What drawings are made of: elements, nodes and the lines between them, with their places."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

LISTED = 25
WIDTH, NODE, ROW, MARGIN = 860, 22, 62, 12
"""Of a drawing, the height of a node, from one row to the next, and around all, in pixels."""


NAMES = 84
"""Width of the names of rows, in pixels."""


@dataclass(frozen=True)
class Element:
    """`rank` by |score| from 0; `kept`: in the stored circuit; `width` in pixels.

    `side`: of two circuits that are drawn as one, which has it: `both`, `one` or `other`. `true`:
    whether it is of the true circuit, where that is known.
    """

    name: str
    rank: int
    kept: bool
    score: float | None
    width: float
    source: str = ""
    target: str = ""
    path: str = ""
    side: str = ""
    true: bool | None = None


@dataclass(frozen=True)
class DrawnNode:
    """A node with its place; `used`: an edge of the stored circuit ends there.

    `element`: what it is itself an element of; `label`: how it is called in its row.
    """

    name: str
    x: float
    y: float
    width: float
    used: bool
    element: Element | None = None
    label: str = ""

    @property
    def text(self) -> str:
        """What stands in it."""
        return self.label or self.name


def curve_between(
    source: DrawnNode, target: DrawnNode, *, least: float = -inf, digits: int = 0
) -> str:
    """A path of SVG from the top of a node to the bottom of one above it.

    It bends by half their distance, at least by `least`; `digits` of its pixels are written.
    """
    x, y = source.x + source.width / 2, source.y
    to_x, to_y = target.x + target.width / 2, target.y + NODE
    bend = max((y - to_y) / 2, least)
    places = ((x, y), (x, y - bend), (to_x, to_y + bend), (to_x, to_y))
    start, *others = (f"{a:.{digits}f} {b:.{digits}f}" for a, b in places)
    return f"M{start}C{' '.join(others)}"


@dataclass(frozen=True)
class DrawnTie:
    """A line between nodes that are elements; `width` in pixels.

    `kind`: a `weight`, the residual `stream` that has none, or a weight whose size is `unknown`.
    """

    source: str
    target: str
    kind: str
    weight: float | None
    path: str
    width: float

    @property
    def name(self) -> str:
        """`m0.hidden.17->m0.out.3`."""
        return f"{self.source}->{self.target}"


@dataclass(frozen=True)
class RowLabel:
    """The name of a row of nodes, at its left end."""

    name: str
    y: float


@dataclass(frozen=True)
class Location:
    """Elements of one location."""

    name: str
    elements: tuple[Element, ...]


@dataclass(frozen=True)
class Drawing:
    """A circuit; `nodes` with edges where these are its elements, else `places`.

    Where nodes are its elements: `ties` between them, and `rows` of the places that they are at.
    """

    unit: str
    size: int
    total: int
    ranked: bool
    elements: tuple[Element, ...]
    nodes: tuple[DrawnNode, ...] = ()
    places: tuple[Location, ...] = ()
    width: int = WIDTH
    height: int = 0
    ties: tuple[DrawnTie, ...] = ()
    rows: tuple[RowLabel, ...] = ()

    @property
    def listed(self) -> tuple[Element, ...]:
        """The elements whose names and scores are given as a table."""
        return self.elements[:LISTED]
