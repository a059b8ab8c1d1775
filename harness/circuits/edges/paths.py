"""Random paths from the input to the logits: what connected random circuits are made of."""

from __future__ import annotations

from functools import cached_property

import torch

from harness.circuits.edges.graph import Graph
from harness.circuits.edges.select import prune


class Walks:
    """Random walks along edges that lead to `logits`.

    `live`: edges that lie on any path at all, bool [P, W, R] (all of them, unless positions have
    their own: then what is nowhere looked at leads nowhere).
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        # From an input to the answer, whatever dropped edges carry.
        self.live = graph.by_place(prune(graph.allowed, graph, "interchange"))
        self._goes_on = torch.cat([self.live.any(2), graph.answers[:, None]], 1)
        self._readers: dict[tuple[int, int], list[int]] = {}
        self._nodes: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def path(self, generator: torch.Generator) -> list[tuple[int, ...]]:
        """Edges (indices) of one walk from an input, each step to a uniformly drawn reader.

        From a key or value it goes on at a uniformly drawn position that looks there. It ends at
        `logits`. Without input writers it starts at any writer. Not uniform over paths.
        """

        def pick(n: int) -> int:
            return 0 if n == 1 else int(torch.randint(n, (), generator=generator))

        graph, path = self.graph, list[tuple[int, ...]]()
        place, row = self._starts[pick(len(self._starts))]
        while row < graph.n_writers:
            columns = self._readers_of(place, row)
            column = columns[pick(len(columns))]
            path.append((row, column) if graph.positions is None else (place, row, column))
            nodes = self._nodes_after(place, column)
            place, row = nodes[pick(len(nodes))]
        return path

    @cached_property
    def _starts(self) -> list[tuple[int, int]]:
        first = slice(self.graph.n_inputs or self.graph.n_writers)
        return [(place, row) for place, row in self._goes_on[:, first].nonzero().tolist()]

    def _readers_of(self, place: int, row: int) -> list[int]:
        """Columns of a writer's live edges at a place."""
        if (place, row) not in self._readers:
            self._readers[place, row] = self.live[place, row].nonzero().flatten().tolist()
        return self._readers[place, row]

    def _nodes_after(self, place: int, column: int) -> list[tuple[int, int]]:
        """Nodes (place, row) that a reader feeds and from which `logits` can be reached."""
        if (place, column) not in self._nodes:
            attended = bool(self.graph.key_value_columns[column])
            looking = self.graph.looked_at[place].nonzero().flatten().tolist()
            fed = self.graph.owners[column].nonzero().flatten().tolist()
            self._nodes[place, column] = [
                (at, node)
                for at in (looking if attended else [place])
                for node in fed
                if self._goes_on[at, node]
            ]
        return self._nodes[place, column]
