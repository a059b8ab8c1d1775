"""What ACDC costs per tested edge, from a sample of readers, without a whole search.

The search goes through all readers in its order. Every `every`-th live reader is searched as ever
and timed; the readers between keep the writers that the last searched one kept, so that nodes live
and die about as they would, and are made current without being timed. The cost of an edge depends
on how much is alive above it, which is why no layer may be left out.

The estimate is Σ seconds / Σ edges over the timed readers, each standing for `every` readers, but
for `logits`, which is always timed and stands for itself. Setting the search up (about two plain
forward+backwards) is left out. The sample is systematic, so it has no standard error; `every=1`
times the whole search.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.discovery.acdc.acdc import Acdc
from harness.discovery.acdc.order import readers_in_order
from harness.discovery.acdc.search import Search
from harness.discovery.problem import Problem


@dataclass(frozen=True)
class SampledCost:
    """`tested` edges and `readers` timed; estimates for a whole search: `edges` that it would
    test, and `seconds`.
    """

    readers: int
    tested: int
    edges: float
    seconds: float

    @property
    def seconds_per_edge(self) -> float:
        """Estimated mean seconds per tested edge."""
        return self.seconds / self.edges


def sampled_cost(problem: Problem, method: Acdc, threshold: float, every: int = 8) -> SampledCost:
    """Time every `every`-th live reader of a search at a threshold."""
    search = Search(problem, method.objective, threshold, method.speculate)
    logits, *others = readers_in_order(problem.edges.graph)
    edges, seconds = _timed(search, logits)
    pattern, tested, readers, live = search.kept[:, logits].clone(), edges, 1, 0
    for column in others:
        if live % every == every // 2:
            count, spent = _timed(search, column)
            if count:
                pattern = search.kept[:, column].clone()
                edges, seconds = edges + every * count, seconds + every * spent
                tested, readers, live = tested + count, readers + 1, live + 1
        else:
            live += _assumed(search, column, pattern)
    return SampledCost(readers, tested, float(edges), seconds)


def _timed(search: Search, column: int) -> tuple[int, float]:
    """Edges tested at a reader, and seconds."""
    before, began = search.tally.tested, time.perf_counter()
    search.visit(column)
    if search.problem.device.type == "cuda":
        torch.cuda.synchronize()
    return search.tally.tested - before, time.perf_counter() - began


def _assumed(search: Search, column: int, pattern: Tensor) -> bool:
    """Keep the writers of `pattern` [W] at a reader, untested; False if nobody hears it."""
    visit = search.begin(column)
    if visit is None:
        search.kept[:, column] = False
        return False
    search.kept[:, column] &= pattern
    visit.end()
    return True
