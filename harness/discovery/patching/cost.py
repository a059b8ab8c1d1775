"""What activation patching costs per edge, from a sample of edges.

What an edge costs depends on its reader alone: on the layers above it. So one chunk of writers is
patched, in every `every`-th layer, into one query, one key, one value and the MLP, and into the
logits. What the chunk costs all queries, keys and values together (the product that all of them
share) is timed alone. A layer that is left out costs per edge what the nearest timed one does. The
sample is systematic, so it has no standard error; `every=1` times all layers. The clean run and the
counterfactual are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from harness.discovery.patching.edges import Patcher
from harness.discovery.problem import Problem
from harness.spec.types import Objective

Result = TypeVar("Result")


class _AtLayer(NamedTuple):
    """Seconds of one edge into a layer's queries, keys and values (the mean), and into its MLP."""

    attention: float
    mlp: float


def seconds_per_edge(problem: Problem, objective: Objective = "metric", every: int = 4) -> float:
    """Estimated mean seconds of an edge, on all pairs of the first batch."""
    graph, batch = problem.edges.graph, problem.batches[0]
    patcher = Patcher(problem, batch, problem.loss(objective, batch))
    n_layers = graph.n_layers
    timed = {
        layer: _layer(patcher, layer) for layer in range(min(every, n_layers) // 2, n_layers, every)
    }
    total = graph.n_writers * _logits(patcher)
    for layer in range(n_layers):
        at = timed[min(timed, key=lambda other: abs(other - layer))]
        total += patcher.model.config.n_read_maps * graph.before_attention(layer) * at.attention
        total += graph.before_mlp(layer) * at.mlp if graph.mlps else 0.0
    return total * graph.n_places / graph.n_edges


def _layer(patcher: Patcher, layer: int) -> _AtLayer:
    graph = patcher.graph
    clean, removed = patcher.clean_reads(layer), _chunk(patcher, graph.before_mlp(layer))
    shared, new = _timed(lambda: patcher.new_reads(layer, removed))
    heads, groups = graph.n_heads, graph.groups
    readers = {0: heads, heads: groups, heads + groups: groups}  # a q, a k, a v; how many there are
    each = shared + sum(
        count * _timed(partial(patcher.at_reader, layer, reader, clean, new))[0]
        for reader, count in readers.items()
    )
    mlp, _ = _timed(lambda: patcher.at_mlp(layer, removed)) if graph.mlps else (0.0, None)
    return _AtLayer(each / (heads + 2 * groups) / len(removed), mlp / len(removed))


def _logits(patcher: Patcher) -> float:
    removed = _chunk(patcher, patcher.graph.n_writers)
    return _timed(lambda: patcher.at_logits(removed))[0] / len(removed)


def _chunk(patcher: Patcher, rows: int) -> Tensor:
    """What the first edges of the first writers take out of a stream [w, B, T, D]."""
    return next(patcher.edges(rows))[1]


def _timed(run: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds of a run alone, and its result."""
    _wait()
    began = time.perf_counter()
    result = run()
    _wait()
    return time.perf_counter() - began, result


def _wait() -> None:
    """Until a GPU has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
