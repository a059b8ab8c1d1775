"""Random connected circuits: what a circuit of this many edges gives by chance.

`random` scatters edges, so its small circuits fall apart when dead ends are removed. Here edges
come in random paths from `input` to `logits`, so that circuits are connected and keep their size
(but for the last path, which is cut; circuits of a few edges may be empty): the fair control for
"any circuit this big would do".

Cost: no plain forward+backward; nothing is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.discovery.fields import NO_PARAMS
from harness.discovery.info import MethodInfo
from harness.discovery.problem import Discovery, Problem


@dataclass(frozen=True)
class RandomPaths:
    """Rank edges by the random path that first used them.

    Paths are drawn until they cover half of the edges that lie on any (then every node is long
    connected); the others follow in random order.
    """

    ABOUT: ClassVar = NO_PARAMS

    def discover(self, problem: Problem) -> Discovery:
        """Scores in (0, 1], falling in the order in which edges were drawn."""
        import torch

        space, generator = problem.space, problem.generator
        walks = space.walks()
        order: dict[int, None] = {}
        half = int(walks.live.sum()) / 2
        while len(order) < half:
            order.update(dict.fromkeys(walks.path(generator)))
        live = walks.live.tolist()
        rest = [element for element in space.listing() if element not in order]
        for on_path in (True, False):  # what lies on no path comes last
            elements = [element for element in rest if live[element] == on_path]
            for index in torch.randperm(len(elements), generator=generator).tolist():
                order[elements[index]] = None
        scores = torch.zeros(len(space), dtype=torch.float64)
        for place, element in enumerate(order):
            scores[element] = 1 - place / len(space)
        return Discovery(scores)


INFO = MethodInfo(
    kind="random_paths",
    title="Random connected circuits: what a circuit of this size gives by chance",
    method=RandomPaths,
    cost="0",
    processes=True,
    passes=lambda params, extent: 0.0,
    shards=True,
)
