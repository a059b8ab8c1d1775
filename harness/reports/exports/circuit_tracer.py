"""A circuit as the graph that circuit-tracer's front ends read."""

from __future__ import annotations

import re
from typing import Any

from harness.circuits.circuit import Circuit
from harness.circuits.graphs.network import network
from harness.spec.printable import printable
from harness.tracing.document import blank, frame

_PART = re.compile(r"([am])([0-9]+)(?:\..*)?")


def circuit_document(circuit: Circuit, slug: str) -> dict[str, Any]:
    """Nodes and links of a circuit; a link's weight is its score, or 1 without scores.

    Its components have no feature numbers, so each is numbered within its layer. Attention of
    layer l is layer 2l, its MLP 2l + 1, as in traces. Circuits are not of one prompt: positions
    stand in for tokens, where elements have one.
    """
    graph = network(circuit)
    places = [_place(node.name) for node in graph.nodes]
    last = 2 + max((layer for layer, _ in places if isinstance(layer, int)), default=-1)
    tokens = 1 + max((position for _, position in places), default=0)
    ids: dict[str, str] = {}
    nodes, numbers = [], dict[str, int]()
    for node, (layer, position) in zip(graph.nodes, places, strict=True):
        site = str(last) if layer == "logits" else str(layer)
        number = numbers[site] = numbers.get(site, -1) + 1
        ids[node.name] = f"{site}_{number}_{position}"
        kind = {"E": "embedding", str(last): "logit"}.get(site, "cross layer transcoder")
        nodes.append(
            {
                **blank(ids[node.name], site, position, kind, number),
                "is_target_logit": kind == "logit",
                "clerp": printable(node.name),
                "activation": node.score,
            }
        )
    links = [
        {
            "source": ids[one.source],
            "target": ids[one.target],
            "weight": 1.0 if one.score is None else one.score,
        }
        for one in graph.links
    ]
    return frame(slug, [f"position {at}" for at in range(tokens)], "", nodes, links)


def _place(name: str) -> tuple[int | str, int]:
    """Layer (`E` of inputs, `logits`), and position (0 where an element has none)."""
    part, _, position = name.partition("@")
    token = int(position) if position.isdecimal() else 0
    if part.startswith(("logits", "final")):
        return "logits", token
    if match := _PART.fullmatch(part):
        return 2 * int(match[2]) + (match[1] == "m"), token
    return "E", token
