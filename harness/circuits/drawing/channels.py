"""A circuit of channels drawn whole: a row for each place, lines for the weights between.

Rows stand in order of computation, the first at the bottom: what attention reads; its queries, keys
and values; what it writes; what the MLP reads, computes and writes; the final read. A line is as
wide as its weight is large. Through the residual stream a read hears earlier writes to its channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from harness.circuits.circuit import Circuit
from harness.circuits.drawing.parts import (
    MARGIN,
    NAMES,
    NODE,
    WIDTH,
    Drawing,
    DrawnNode,
    DrawnTie,
    Element,
    RowLabel,
    curve_between,
)
from harness.circuits.gates.space import GatedSpace
from harness.circuits.graphs.network import network

MOST_DRAWN, FEWEST = 150, 80
"""Channels of a circuit that is drawn whole; of a larger one so many of largest |score|."""

ABREAST = 16
"""Channels beside each other; longer rows are broken."""

STEP, BREAK, WIDEST = 52, 30, 48
"""Height from row to row and from line to line of one, width of a node."""

THINNEST, WIDEST_LINE = 0.6, 5.0
_HEADS = {"q", "k", "v"}


def has_ties(circuit: Circuit) -> bool:
    """Whether it is drawn with the weights between its channels.

    That is so of small circuits, and of all whose weights are at hand; others are listed by place.
    """
    space = circuit.space
    wired = isinstance(space, GatedSpace) and space.wiring is not None
    return wired and circuit.size > 0 and (circuit.size <= MOST_DRAWN or bool(circuit.ties))


def channel_drawing(circuit: Circuit) -> Drawing:
    """The kept channels, ranked by |score|, and what ties them (`Circuit.ties`).

    Without stored ties the pattern of the weights alone is known: lines of one width.
    """
    elements = _ranked(circuit)
    ties, sized = dict(circuit.ties), bool(circuit.ties)
    if not sized:
        ties = {(one.source, one.target): None for one in network(circuit).links}
    drawn = {one.name for one in elements}
    ties = {ends: weight for ends, weight in ties.items() if drawn.issuperset(ends)}
    nodes, rows, height = _placed(elements, list(ties), _order(circuit))
    at = {node.name: node for node in nodes}
    largest = max((abs(weight) for weight in ties.values() if weight is not None), default=0.0)
    lines = [
        _line(at[source], at[target], weight, largest, sized=sized)
        for (source, target), weight in ties.items()
    ]
    lines.sort(key=lambda one: one.width)  # the largest lie on top
    return Drawing(
        circuit.space.unit,
        circuit.size,
        len(circuit.space),
        circuit.scores is not None,
        elements,
        nodes=tuple(nodes),
        height=height,
        ties=tuple(lines),
        rows=tuple(rows),
    )


def _ranked(circuit: Circuit) -> tuple[Element, ...]:
    scores, most = circuit.scores, circuit.size if circuit.size <= MOST_DRAWN else FEWEST
    return tuple(
        Element(
            circuit.space.name(element),
            rank,
            kept=True,
            score=None if scores is None else float(scores[element]),
            width=1.5,
        )
        for rank, element in enumerate(circuit.ranked()[:most].tolist())
    )


def _order(circuit: Circuit) -> list[str]:
    """The sites in order of computation."""
    assert isinstance(circuit.space, GatedSpace)
    return [gates.name for gates in circuit.space.gates]


# ---------------------------------------------------------------- places
def site_of(name: str) -> str:
    """`m0.hidden` of `m0.hidden.17`."""
    return name.rpartition(".")[0]


def _row_of(site: str) -> str:
    """Queries, keys and values of a layer share a row."""
    part, _, kind = site.partition(".")
    return f"{part}.q,k,v" if kind in _HEADS else site


def _label(name: str) -> str:
    """The number of a channel, after its kind where a row holds several."""
    site, _, number = name.rpartition(".")
    kind = site.partition(".")[2]
    return f"{kind}{number}" if kind in _HEADS else number


def _placed(
    elements: Sequence[Element], ties: Sequence[tuple[str, str]], order: Sequence[str]
) -> tuple[list[DrawnNode], list[RowLabel], int]:
    """Nodes row by row, each near what it is tied to, with the rows' names and the height."""
    by_row: dict[str, list[Element]] = {}
    names = {one.name: one for one in elements}
    for site in order:
        own = [one for name, one in names.items() if site_of(name) == site]
        own.sort(key=lambda one: int(one.name.rpartition(".")[2]))
        if own:
            by_row.setdefault(_row_of(site), []).extend(own)
    arranged = _arranged([[one.name for one in row] for row in by_row.values()], ties)
    lines = [list(_broken(row)) for row in arranged]
    height = 2 * MARGIN + NODE + sum(BREAK * (len(row) - 1) for row in lines)
    height += STEP * (len(lines) - 1)
    y, nodes, labels = height - MARGIN - NODE, [], []
    for name, row in zip(by_row, lines, strict=True):
        labels.append(RowLabel(name, y + 15))
        for at, line in enumerate(row):
            y -= BREAK if at else 0
            for one, centre in zip(line, _spread(len(line)), strict=True):
                width = min(WIDEST, _room(len(line)) - 4)
                x = round(centre - width / 2, 1)
                nodes.append(DrawnNode(one, x, y, round(width, 1), True, names[one], _label(one)))
        y -= STEP
    return nodes, labels, height


def _broken(row: Sequence[str]) -> list[Sequence[str]]:
    """A row as lines of about equal length."""
    lines = -(-len(row) // ABREAST)
    each = -(-len(row) // lines)
    return [row[start : start + each] for start in range(0, len(row), each)]


def _room(count: int) -> float:
    return (WIDTH - NAMES - MARGIN) / count


def _spread(count: int) -> list[float]:
    """Centres of nodes in a row: not further apart than they need to be, in the middle."""
    step = min(_room(count), 2.2 * WIDEST)
    start = NAMES + (WIDTH - NAMES - MARGIN - step * count) / 2
    return [start + step * (at + 0.5) for at in range(count)]


def _arranged(rows: list[list[str]], ties: Sequence[tuple[str, str]]) -> list[list[str]]:
    """The same rows, each node near the mean place of those it is tied to: fewer lines cross.

    Twice up and down (the barycentre rule of layered drawings); ties of equal place keep order.
    """
    beside: dict[str, list[str]] = {}
    for source, target in ties:
        beside.setdefault(source, []).append(target)
        beside.setdefault(target, []).append(source)
    level = {name: number for number, row in enumerate(rows) for name in row}
    place = _places(rows)
    for sweep in range(4):
        upward = sweep % 2 == 0
        for number in range(len(rows)) if upward else reversed(range(len(rows))):
            wanted = {
                name: fmean(near) if (near := _near(name, number, upward, beside, level, place))
                else place[name]
                for name in rows[number]
            }  # fmt: skip
            rows[number] = sorted(rows[number], key=lambda name: (wanted[name], place[name]))
            place |= _places([rows[number]])
    return rows


def _near(
    name: str,
    number: int,
    upward: bool,
    beside: Mapping[str, Sequence[str]],
    level: Mapping[str, int],
    place: Mapping[str, float],
) -> list[float]:
    """Places of what a node is tied to in the rows that were arranged before its own."""
    return [
        place[other]
        for other in beside.get(name, ())
        if (level[other] < number if upward else level[other] > number)
    ]


def _places(rows: Sequence[Sequence[str]]) -> dict[str, float]:
    return {name: place for row in rows for name, place in zip(row, _spread(len(row)), strict=True)}


# ---------------------------------------------------------------- lines
def _line(
    source: DrawnNode, target: DrawnNode, weight: float | None, largest: float, *, sized: bool
) -> DrawnTie:
    path = curve_between(source, target, least=NODE)
    if weight is None:
        kind = "stream" if sized else "unknown"
        return DrawnTie(source.name, target.name, kind, None, path, 1.2)
    share = abs(weight) / largest if largest else 0.0
    width = round(THINNEST + (WIDEST_LINE - THINNEST) * share, 2)
    return DrawnTie(source.name, target.name, "weight", weight, path, width)
