"""A drawing as boxes, curves and labels with their colours: what SVG and other formats are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.circuits.drawing.palette import (
    BOTH,
    INK,
    MISSED,
    NEGATIVE,
    ONE,
    OTHER,
    PANEL,
    PAPER,
    POSITIVE,
    QUIET,
    RULE,
    TRUE,
    UNTRUE,
)
from harness.circuits.drawing.parts import NODE, Drawing, DrawnNode, DrawnTie, Element
from harness.spec.printable import printable

HEAD, FOOT = 30, 26
"""Room for the title above and the legend below, in pixels."""
ASIDE, CHIP, LETTER = 110, 22, 6.4
"""Width of a location's name, height of a chip, width of a letter, in pixels."""


@dataclass(frozen=True)
class Box:
    """A rectangle with rounded corners; `tip` is said of it where a format can."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    line: str
    dashed: bool = False
    tip: str = ""


@dataclass(frozen=True)
class Curve:
    """A cubic Bézier curve through four points."""

    points: tuple[tuple[float, float], ...]
    colour: str
    width: float
    dashed: bool
    tip: str
    dotted: bool = False


@dataclass(frozen=True)
class TextLabel:
    """Text; `x` is where it starts, its middle or its end."""

    x: float
    y: float
    text: str
    colour: str = INK
    size: int = 11
    anchor: str = "middle"
    bold: bool = False


Shape = Box | Curve | TextLabel


@dataclass(frozen=True)
class Scene:
    """Shapes in the order in which they are painted, on a sheet of so many pixels."""

    width: int
    height: int
    title: str
    shapes: tuple[Shape, ...]


def scene(drawing: Drawing, title: str) -> Scene:
    """A drawing with its title and a legend; y grows downwards. Only kept elements are shown."""
    shown = [one for one in drawing.elements if one.kept or one.true]
    graph = bool(drawing.nodes)
    shapes = list(_graph(drawing, shown) if graph else _listing(drawing))
    lowest = drawing.height if graph else _bottom(shapes)
    text = printable(title)
    head = TextLabel(12, 19, text, size=13, anchor="start", bold=True)
    foot = list(_legend(shown, drawing, HEAD + lowest + 17))
    moved = [_lower(one, HEAD) for one in shapes]
    height = int(HEAD + lowest + FOOT)
    return Scene(drawing.width, height, text, (head, *moved, *foot))


# ---------------------------------------------------------------- nodes and edges
def _graph(drawing: Drawing, shown: Sequence[Element]) -> Iterator[Shape]:
    yield Box(0, 0, drawing.width, drawing.height, PANEL, PANEL)
    for row in drawing.rows:
        yield TextLabel(8, row.y, printable(row.name), QUIET, anchor="start")
    for tie in drawing.ties:
        yield _tie(tie)
    for one in reversed([] if drawing.ties else shown):  # the strongest lie on top
        if one.path:
            colour, dashed = look(one)
            dotted = one.true is False
            yield Curve(_points(one.path), colour, one.width, dashed, _tip(one), dotted)
    for node in drawing.nodes:
        yield from _node(node)


def _tie(tie: DrawnTie) -> Curve:
    """Weights by sign, the stream and weights of unknown size in grey."""
    negative = tie.weight is not None and tie.weight < 0
    colour = QUIET if tie.weight is None else NEGATIVE if negative else POSITIVE
    said = {"stream": ", through the stream", "unknown": ", a weight"}.get(tie.kind)
    tip = printable(tie.name) + (f" {tie.weight:+.4g}" if said is None else said)
    dotted = tie.kind == "stream"
    return Curve(_points(tie.path), colour, tie.width, negative, tip, dotted)


def _node(node: DrawnNode) -> Iterator[Shape]:
    name, one = printable(node.text), node.element
    line, dashed = (INK if node.used else RULE, False) if one is None else look(one)
    tip = printable(node.name) if one is None else _tip(one)
    yield Box(node.x, node.y, node.width, NODE, PAPER, line, dashed, tip)
    colour = INK if node.used else QUIET
    size = 11 if len(name) * LETTER <= node.width else 8
    yield TextLabel(node.x + node.width / 2, node.y + 15, name, colour, size)


def _points(path: str) -> tuple[tuple[float, float], ...]:
    """The four points of `M x y C x y x y x y`."""
    numbers = [float(one) for one in path.replace("M", " ").replace("C", " ").split()]
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


# ---------------------------------------------------------------- elements by location
def _listing(drawing: Drawing) -> Iterator[Shape]:
    y = 6.0
    for place in drawing.places:
        kept = [one for one in place.elements if one.kept]
        if not kept:
            continue
        yield TextLabel(12, y + 15, printable(place.name), anchor="start", bold=True)
        x = float(ASIDE)
        for one in kept:
            text = printable(one.name)
            width = 12 + LETTER * len(text)
            if x + width > drawing.width - 8 and x > ASIDE:
                x, y = float(ASIDE), y + CHIP + 4
            colour, dashed = look(one)
            yield Box(x, y, width, CHIP, PAPER, colour, dashed, _tip(one))
            yield TextLabel(x + width / 2, y + 15, text, colour)
            x += width + 6
        y += CHIP + 12


def _bottom(shapes: Sequence[Shape]) -> float:
    return max((one.y + one.height for one in shapes if isinstance(one, Box)), default=0.0) + 6


# ---------------------------------------------------------------- colours and words
def look(element: Element) -> tuple[str, bool]:
    """Colour, and whether dashed: by the circuit that has it, else by the sign of the score.

    Where the truth is known, by whether it is true: those that are missed are dashed.
    """
    if element.side:
        return {"both": BOTH, "one": ONE, "other": OTHER}[element.side], element.side == "other"
    if element.true is not None:
        missed = element.true and not element.kept
        return (MISSED if missed else TRUE if element.true else UNTRUE), missed
    negative = element.score is not None and element.score < 0
    return (NEGATIVE if negative else POSITIVE), negative


def _tip(element: Element) -> str:
    score = "" if element.score is None else f" {element.score:+.4g}"
    return printable(element.name) + score


def _legend(shown: Sequence[Element], drawing: Drawing, y: float) -> Iterator[Shape]:
    if any(one.side for one in shown):
        words = [
            ("in both", BOTH),
            ("only in the first", ONE),
            ("only in the other: dashed", OTHER),
        ]
    elif any(one.true is not None for one in shown):
        words = [
            ("true", TRUE),
            ("not true: dotted", UNTRUE),
            ("true, and missed: dashed", MISSED),
        ]
    elif drawing.ranked:
        words = [("positive score", POSITIVE), ("negative score, dashed", NEGATIVE)]
    elif any(one.weight is not None for one in drawing.ties):
        words = [("positive weight", POSITIVE), ("negative weight, dashed", NEGATIVE)]
    else:
        words = []
    x = 12.0
    for text, colour in words:
        yield TextLabel(x, y, text, colour, anchor="start")
        x += LETTER * len(text) + 24
    missing = drawing.size - sum(one.kept for one in shown)
    said = "wider: larger |score|" if drawing.ranked and drawing.nodes else ""
    if drawing.ties:
        said = tie_legend(drawing)
    if missing > 0:
        said = f"{said}; the {missing:,} weakest are not drawn".removeprefix("; ")
    if said:
        yield TextLabel(drawing.width - 12, y, said, QUIET, anchor="end")


def tie_legend(drawing: Drawing) -> str:
    """What the lines between channels say."""
    if any(one.kind == "unknown" for one in drawing.ties):
        return "lines: weights that are not zero, whose sizes this circuit does not come with"
    return "lines: weights, the wider the larger; dotted: the residual stream"


def _lower(shape: Shape, by: float) -> Shape:
    match shape:
        case Box(x, y, width, height, fill, line, dashed, tip):
            return Box(x, y + by, width, height, fill, line, dashed, tip)
        case Curve(points):
            return replace(shape, points=tuple((x, y + by) for x, y in points))
        case TextLabel(x, y, text, colour, size, anchor, bold):
            return TextLabel(x, y + by, text, colour, size, anchor, bold)
