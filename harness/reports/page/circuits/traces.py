"""The trace of an answer as a drawing: a row for each module, tokens from left to right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.circuits.drawing.parts import (
    MARGIN,
    NAMES,
    NODE,
    ROW,
    WIDTH,
    Drawing,
    DrawnNode,
    Element,
    RowLabel,
    curve_between,
)

TARGET = "logit difference"
WIDEST, THINNEST, THICKEST = 74, 0.75, 5.0


@dataclass(frozen=True)
class ShownTrace:
    """The drawing; the target's `value`, and the share of what makes it up that is drawn."""

    drawing: Drawing
    value: str
    share: str


def shown_trace(stored: Mapping[str, Any] | None) -> ShownTrace | None:
    """The trace in `nodes.json`, if there is one."""
    trace = None if stored is None else stored.get("trace")
    if trace is None:
        return None
    return ShownTrace(trace_drawing(trace), f"{trace['value']:.4g}", f"{trace['kept']:.0%}")


def trace_drawing(trace: Mapping[str, Any]) -> Drawing:
    """The trace of `nodes.json` (`harness.runs.nodes.traced`); the target stands on top."""
    names = [_name(one) for one in trace["nodes"]]
    rows: dict[str, list[int]] = {}
    for at, node in enumerate(trace["nodes"]):
        rows.setdefault(node["writer"], []).append(at)
    height = 2 * MARGIN + NODE + ROW * len(rows)
    y, placed, labels = height - MARGIN - NODE, dict[str, DrawnNode](), []
    for writer, members in rows.items():
        labels.append(RowLabel(writer, y + 15))
        row = sorted(members, key=lambda at: (trace["nodes"][at]["token"], at))
        step = (WIDTH - NAMES - MARGIN) / len(row)
        width = round(min(WIDEST, step - 4), 1)
        for place, at in enumerate(row):
            x = round(NAMES + step * (place + 0.5) - width / 2, 1)
            label = trace["nodes"][at]["name"].removeprefix(f"{writer}.")
            placed[names[at]] = DrawnNode(names[at], x, y, width, True, label=label)
        y -= ROW
    middle = NAMES + (WIDTH - NAMES - MARGIN) / 2
    placed[TARGET] = DrawnNode(TARGET, middle - 60, y, 120, True)
    edges = tuple(_edges(trace["edges"], names, placed))
    return Drawing(
        "contributions",
        len(edges),
        len(edges),
        True,
        edges,
        nodes=tuple(placed.values()),
        height=height,
        rows=tuple(labels),
    )


def _name(node: Mapping[str, Any]) -> str:
    """Of a feature that of the circuit's element, with its token."""
    return f"{node['feature']}@{node['token']}" if node["feature"] else str(node["name"])


def _edges(
    edges: Sequence[Sequence[Any]], names: Sequence[str], placed: Mapping[str, DrawnNode]
) -> list[Element]:
    largest = max((abs(weight) for *_, weight in edges), default=1.0) or 1.0
    ordered = sorted(edges, key=lambda one: -abs(one[2]))
    return [
        _edge(rank, names[source], TARGET if into is None else names[into], weight, largest, placed)
        for rank, (source, into, weight) in enumerate(ordered)
    ]


def _edge(
    rank: int,
    source: str,
    target: str,
    weight: float,
    largest: float,
    placed: Mapping[str, DrawnNode],
) -> Element:
    path = curve_between(placed[source], placed[target])
    width = round(THINNEST + (THICKEST - THINNEST) * abs(weight) / largest, 2)
    return Element(f"{source}->{target}", rank, True, weight, width, source, target, path)
