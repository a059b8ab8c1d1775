"""Random connected circuits: what a circuit of this many edges gives by luck.

`random` scatters edges, so its small circuits fall apart when dead ends are removed. Here edges
come in random paths from `input` to `logits`, so that circuits are connected and keep their size
(but for the last path, which is cut; circuits of a few edges may be empty): the fair control for
"any circuit this big would do".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.circuits.paths import random_path
from harness.discovery.problem import Discovery, Problem


@dataclass(frozen=True)
class RandomPaths:
    """Rank edges by the random path that first used them. Cost: nothing is run.

    Paths are drawn until they cover half of the edges (then every node is long connected);
    the others follow in random order.
    """

    def discover(self, problem: Problem) -> Discovery:
        """Scores in (0, 1], falling in the order in which edges were drawn."""
        graph, generator = problem.graph, problem.generator
        order: dict[tuple[int, int], None] = {}
        while len(order) < graph.n_edges / 2:
            order.update(dict.fromkeys(random_path(graph, generator)))
        rest = [edge for edge in graph.edges() if edge not in order]
        for index in torch.randperm(len(rest), generator=generator).tolist():
            order[rest[index]] = None
        scores = torch.zeros(graph.n_writers, graph.n_readers, dtype=torch.float64)
        for place, (row, column) in enumerate(order):
            scores[row, column] = 1 - place / graph.n_edges
        return Discovery(scores)
