"""The graph of a circuit: heads and MLPs with edges, or channels with the weights between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.circuits.circuit import Circuit
from harness.circuits.edges.networks import arrows
from harness.circuits.edges.space import EdgeSpace
from harness.circuits.gates.space import GatedSpace


@dataclass(frozen=True)
class NetworkNode:
    """A component, channel or feature; `score` of elements that have one."""

    name: str
    score: float | None = None


@dataclass(frozen=True)
class NetworkLink:
    """From a writer to its reader; `reads`: q, k, v or nothing."""

    name: str
    source: str
    target: str
    reads: str = ""
    score: float | None = None


@dataclass(frozen=True)
class Network:
    """Nodes in order of computation, as far as the space knows it, and the links among them."""

    unit: str
    nodes: tuple[NetworkNode, ...]
    links: tuple[NetworkLink, ...]


def network(circuit: Circuit) -> Network:
    """What a circuit keeps.

    Channels are linked where the model's files say that a weight between them is not zero; what
    they say to each other through the residual stream is no link.
    """
    if isinstance(circuit.space, EdgeSpace):
        edges = arrows(circuit)
        names = dict.fromkeys(name for one in edges for name in (one.writer, one.reader))
        links = tuple(
            NetworkLink(one.name, one.writer, one.reader, one.reads, one.score) for one in edges
        )
        return Network(circuit.space.unit, tuple(map(NetworkNode, names)), links)
    kept = circuit.kept.tolist()
    nodes = tuple(
        NetworkNode(
            circuit.space.name(element),
            None if circuit.scores is None else float(circuit.scores[element]),
        )
        for element in circuit.space.listing()
        if kept[element]
    )
    return Network(circuit.space.unit, nodes, tuple(_weights(circuit)))


def _weights(circuit: Circuit) -> Iterator[NetworkLink]:
    space = circuit.space
    if not isinstance(space, GatedSpace) or space.wiring is None:
        return
    by_site = space.by_site(circuit.kept)
    for link in space.wiring.links:
        targets, sources = by_site[link.target].nonzero()[0], by_site[link.source].nonzero()[0]
        if link.bits is None:
            joined = np.ones((len(targets), len(sources)), bool)
        else:
            rows = np.unpackbits(link.bits[targets], axis=1, count=link.shape[1])
            joined = rows[:, sources].astype(bool)
        for row, column in zip(*joined.nonzero(), strict=True):
            source = f"{link.source}.{sources[column]}"
            target = f"{link.target}.{targets[row]}"
            yield NetworkLink(f"{source}->{target}", source, target)
