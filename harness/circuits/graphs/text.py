"""Graphs of circuits as DOT (Graphviz) and as GraphML (networkx, Gephi, yEd, Cytoscape)."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from xml.sax.saxutils import escape, quoteattr

from harness.circuits.circuit import Circuit
from harness.circuits.drawing.palette import INK, NEGATIVE, POSITIVE
from harness.circuits.graphs.network import Network, network
from harness.spec.printable import printable


def dot(circuit: Circuit) -> str:
    """DOT text: inputs at the bottom, colours by the sign of the score, negative ones dashed."""
    graph = network(circuit)
    lines = ["digraph circuit {", "  rankdir=BT;", "  node [shape=box, style=rounded];"]
    for node in graph.nodes:
        lines.append(f"  {_id(node.name)}{_attributes('', node.score)};")
    for one in graph.links:
        ends = f"{_id(one.source)} -> {_id(one.target)}"
        lines.append(f"  {ends}{_attributes(one.reads, one.score)};")
    return "\n".join([*lines, "}", ""])


def _id(name: str) -> str:
    """A quoted name: a quote is escaped, and a backslash would begin an escape."""
    text = printable(name).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _attributes(label: str, score: float | None) -> str:
    pairs = [f"label={_id(label)}"] if label else []
    if score is not None:
        style = ", style=dashed" if score < 0 else ""
        pairs.append(f'color="{NEGATIVE if score < 0 else POSITIVE}"{style}')
        pairs.append(f'score="{score:.9g}"')
    elif label:
        pairs.append(f'color="{INK}"')
    return f" [{', '.join(pairs)}]" if pairs else ""


def graphml(circuit: Circuit) -> str:
    """GraphML text: links have `name`, `reads` and `score`, elements that are nodes a `score`."""
    return "\n".join(_graphml(network(circuit))) + "\n"


def _graphml(graph: Network) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
    yield '<key id="strength" for="node" attr.name="score" attr.type="double"/>'
    yield '<key id="name" for="edge" attr.name="name" attr.type="string"/>'
    yield '<key id="reads" for="edge" attr.name="reads" attr.type="string"/>'
    yield '<key id="score" for="edge" attr.name="score" attr.type="double"/>'
    yield '<graph id="circuit" edgedefault="directed">'
    for node in graph.nodes:
        yield f"<node id={_quoted(node.name)}>{_number('strength', node.score)}</node>"
    for number, one in enumerate(graph.links):
        data = f'<data key="name">{escape(printable(one.name))}</data>'
        data += f'<data key="reads">{one.reads}</data>' + _number("score", one.score)
        ends = f"source={_quoted(one.source)} target={_quoted(one.target)}"
        yield f'<edge id="e{number}" {ends}>{data}</edge>'
    yield "</graph>"
    yield "</graphml>"


def _quoted(name: str) -> str:
    return quoteattr(printable(name))


def _number(key: str, value: float | None) -> str:
    """Nothing for scores that are missing or not finite, which readers refuse."""
    if value is None or not isfinite(value):
        return ""
    return f'<data key="{key}">{value!r}</data>'
