"""Circuits as drawings: edges between nodes in layers, other elements listed by location."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite

import torch

from harness.circuits.circuit import Circuit
from harness.circuits.drawing.channels import channel_drawing, has_ties
from harness.circuits.drawing.parts import (
    MARGIN,
    NODE,
    ROW,
    WIDTH,
    Drawing,
    DrawnNode,
    Element,
    Location,
    curve_between,
)
from harness.circuits.edges.networks import Arrow, arrows
from harness.circuits.edges.space import EdgeSpace

MOST = 125
"""Elements in a drawing: the strongest ones."""
WIDEST_NODE = 74
ASIDE = 90

_PART = re.compile(r"([am])([0-9]+)(?:\.h([0-9]+))?")


def drawing(circuit: Circuit, true: Sequence[str] | None = None) -> Drawing:
    """A circuit with at most `MOST` elements: of largest |score|, else the first that it keeps.

    Of one of channels with weights between them, those that it keeps alone. `true`: elements of
    the true circuit, all of which are drawn.
    """
    if has_ties(circuit):
        return channel_drawing(circuit)
    chosen = _chosen(circuit)
    true_ones = {circuit.space.index(name) for name in true or ()}
    chosen += sorted(true_ones.difference(chosen))
    elements = _elements(circuit, chosen)
    if true is not None:
        elements = tuple(
            replace(one, true=number in true_ones)
            for number, one in zip(chosen, elements, strict=True)
        )
    about = (circuit.space.unit, circuit.size, len(circuit.space), circuit.scores is not None)
    if isinstance(circuit.space, EdgeSpace):
        return _graph(circuit, chosen, elements, about)
    return Drawing(*about, elements, places=_places(circuit, chosen, elements))


def _chosen(circuit: Circuit) -> list[int]:
    if circuit.scores is None:
        kept = circuit.kept.tolist()
        return [element for element in circuit.space.listing() if kept[element]][:MOST]
    strength = circuit.scores.double().abs()
    order: list[int] = strength.argsort(descending=True, stable=True).tolist()
    finite = torch.isfinite(strength).tolist()
    return [element for element in order if finite[element]][:MOST]


def _elements(circuit: Circuit, chosen: Sequence[int]) -> tuple[Element, ...]:
    scores = [None if circuit.scores is None else float(circuit.scores[e]) for e in chosen]
    finite = [abs(score) for score in scores if score is not None and isfinite(score)]
    largest = max(finite, default=0.0)
    kept = circuit.kept.tolist()

    def width(score: float | None) -> float:
        if score is None or not largest or not isfinite(score):
            return 1.5
        return round(0.75 + 4 * abs(score) / largest, 2)

    return tuple(
        Element(circuit.space.name(element), rank, kept[element], score, width(score))
        for rank, (element, score) in enumerate(zip(chosen, scores, strict=True))
    )


# ---------------------------------------------------------------- edges
def _graph(
    circuit: Circuit,
    chosen: Sequence[int],
    elements: Sequence[Element],
    about: tuple[str, int, int, bool],
) -> Drawing:
    drawn = torch.zeros_like(circuit.kept)
    drawn[list(chosen)] = True
    ends = {arrow.name: arrow for arrow in arrows(replace(circuit, kept=drawn))}
    used = {
        node
        for one in elements
        if one.kept
        for node in (ends[one.name].writer, ends[one.name].reader)
    }
    names = dict.fromkeys(node for one in ends.values() for node in (one.writer, one.reader))
    if not any("@" in name for name in names):
        names |= dict.fromkeys(circuit.space.components)
    nodes, height = _layout(list(names), used)
    at = {node.name: node for node in nodes}
    lines = tuple(_joined(one, ends[one.name], at) for one in elements)
    return Drawing(*about, lines, nodes=tuple(nodes), height=height)


def row_of(node: str) -> tuple[int, int]:
    """Where a node stands: its row from the bottom (inputs 0), and its order in it.

    Attention of layer l is in row 2l+1, its MLP in row 2l+2; logits are above all.
    """
    name = node.partition("@")[0]
    if name == "logits":
        return 1 << 30, 0
    if match := _PART.fullmatch(name):
        return 2 * int(match[2]) + (1 if match[1] == "a" else 2), int(match[3] or 0)
    return 0, 0


def _layout(names: Sequence[str], used: set[str]) -> tuple[list[DrawnNode], int]:
    rows: dict[int, list[str]] = {}
    for name in names:
        rows.setdefault(row_of(name)[0], []).append(name)
    height = 2 * MARGIN + NODE + ROW * (len(rows) - 1)
    nodes = []
    for place, row in enumerate(sorted(rows)):
        members = sorted(rows[row], key=lambda name: (row_of(name)[1], _natural(name)))
        step = (WIDTH - 2 * MARGIN) / len(members)
        width = min(WIDEST_NODE, step - 4)
        y = height - MARGIN - NODE - ROW * place
        for at, name in enumerate(members):
            centre = MARGIN + step * (at + 0.5) + _aside(name)
            nodes.append(
                DrawnNode(name, round(centre - width / 2, 1), y, round(width, 1), name in used)
            )
    return nodes, height


def _aside(name: str) -> float:
    """MLPs of one layer and the next stand apart, so that edges past them can be seen."""
    match = _PART.fullmatch(name)
    return 0.0 if match is None or match[1] == "a" else (-1) ** int(match[2]) * ASIDE


def _natural(name: str) -> list[tuple[int, str]]:
    """So that position 10 comes after 9."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def _joined(element: Element, arrow: Arrow, at: Mapping[str, DrawnNode]) -> Element:
    """An edge as a curve from the top of its writer to the bottom of its reader."""
    one, other = at[arrow.writer], at[arrow.reader]
    path = curve_between(one, other)
    return replace(element, source=one.name, target=other.name, path=path)


# ---------------------------------------------------------------- other elements
def _places(
    circuit: Circuit, chosen: Sequence[int], elements: Sequence[Element]
) -> tuple[Location, ...]:
    """Drawn elements by location, that of the model's last elements first; the strongest lead."""
    grouped: dict[str, list[Element]] = {}
    last: dict[str, int] = {}
    for number, element in zip(chosen, elements, strict=True):
        place = location_of(element.name)
        grouped.setdefault(place, []).append(element)
        last[place] = max(number, last.get(place, number))
    ordered = sorted(grouped, key=lambda place: -last[place])
    return tuple(Location(name, tuple(grouped[name])) for name in ordered)


def location_of(name: str) -> str:
    """Where an element is: `m0.post` of `m0.post.17`, `a1` of `a1.h3`, `m2` of `m2`."""
    return name.partition("@")[0].rpartition(".")[0] or name.partition("@")[0]
