"""Circuits of edges as arrows between nodes, and as graphs of networkx."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from harness.circuits.circuit import Circuit
from harness.circuits.edges.space import EdgeSpace
from harness.errors import HarnessError

_READER = re.compile(r"(.*)<([qkv])>")


class Arrow(NamedTuple):
    """A kept edge: the node that writes, the one that reads and as what, and the edge's score."""

    name: str
    writer: str
    reader: str
    reads: str
    score: float | None


def arrows(circuit: Circuit) -> list[Arrow]:
    """The kept edges, in the order of the files.

    Raises `HarnessError` for circuits that are not made of edges.
    """
    if not isinstance(circuit.space, EdgeSpace):
        raise HarnessError(f"only circuits of edges are graphs, not of {circuit.space.unit}")
    kept = circuit.kept.tolist()
    return [
        _arrow(circuit, circuit.space, element)
        for element in circuit.space.listing()
        if kept[element]
    ]


def _arrow(circuit: Circuit, space: EdgeSpace, element: int) -> Arrow:
    name = space.name(element)
    ends, at, position = name.partition("@")
    writer, _, reader = ends.partition("->")
    match = _READER.fullmatch(reader)
    node, reads = (match[1], match[2]) if match else (reader, "")
    score = None if circuit.scores is None else float(circuit.scores[element])
    return Arrow(name, writer + at + position, node + at + position, reads, score)


def to_networkx(circuit: Circuit) -> Any:
    """A `networkx.MultiDiGraph`. Raises `HarnessError` where networkx is not installed."""
    try:
        import networkx
    except ImportError as error:
        raise HarnessError("to_networkx needs networkx: pip install networkx") from error
    graph = networkx.MultiDiGraph()
    for one in arrows(circuit):
        graph.add_edge(one.writer, one.reader, name=one.name, reads=one.reads, score=one.score)
    return graph
