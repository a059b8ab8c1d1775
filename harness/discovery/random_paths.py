"""Random connected circuits: what a circuit of this many edges gives by luck.

`random` scatters edges, so its small circuits fall apart when dead ends are removed. Here edges
come in random paths from `input` to `logits`, so that circuits are connected and keep their size
(but for the last path, which is cut; circuits of a few edges may be empty): the fair control for
"any circuit this big would do".

Cost: no plain forward+backward; nothing is run.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.circuits.edges.paths import Walks
from harness.discovery.problem import Discovery, Problem


@dataclass(frozen=True)
class RandomPaths:
    """Rank edges by the random path that first used them.

    Paths are drawn until they cover half of the edges that lie on any (then every node is long
    connected); the others follow in random order.
    """

    def discover(self, problem: Problem) -> Discovery:
        """Scores in (0, 1], falling in the order in which edges were drawn."""
        graph, generator = problem.graph, problem.generator
        walks = Walks(graph)
        order: dict[tuple[int, ...], None] = {}
        half = int(walks.live.sum()) / 2
        while len(order) < half:
            order.update(dict.fromkeys(walks.path(generator)))
        live = walks.live.view(graph.allowed.shape).numpy()
        rest = [edge for edge in graph.edges() if edge not in order]
        for lively in (True, False):  # what lies on no path comes last
            edges = [edge for edge in rest if live[edge] == lively]
            for index in torch.randperm(len(edges), generator=generator).tolist():
                order[edges[index]] = None
        scores = torch.zeros(graph.allowed.shape, dtype=torch.float64)
        for place, edge in enumerate(order):
            scores[edge] = 1 - place / graph.n_edges
        return Discovery(scores)
