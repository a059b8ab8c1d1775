"""What each node of a circuit is worth: the task's metric without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.edges.space import EdgeSpace
from harness.evaluation.knockout import Part, component_parts, element_parts, metric_of
from harness.evaluation.setup import Setup

PAIRS = 32
"""Prompt pairs that nodes are knocked out on: the first of the largest batch."""

NODES = 64
"""Nodes that are knocked out: components with most kept elements, elements of largest |score|."""

RUNS = 2048
"""Prompts that are run in all; more nodes are knocked out on fewer pairs, at least on `LEAST`."""

LEAST = 4


@dataclass(frozen=True)
class Worth:
    """Mean metric over `n` pairs of the model and the circuit, and by name without a node.

    `without`: of the circuit alone. `model_without`: of the whole model with the node ablated;
    for components, where a circuit is not itself made of nodes.
    """

    n: int = 0
    model: float | None = None
    circuit: float | None = None
    without: Mapping[str, float] = field(default_factory=dict)
    model_without: Mapping[str, float] = field(default_factory=dict)


def worth_of(setup: Setup, circuit: Circuit) -> Worth:
    """Of the nodes of a circuit: components of one of edges, else its elements.

    Raises `HarnessError` where a metric is not finite.
    """
    both, kept = isinstance(setup.space, EdgeSpace), circuit.kept
    if both:
        parts = component_parts(kept, setup.space)
        parts.sort(key=lambda part: -int((part.elements & kept).sum()))
    else:
        parts = element_parts(_strongest(circuit), setup.space)
    parts = parts[:NODES]
    few = on_few(setup, RUNS // (2 + len(parts) * (1 + both)))
    everything = torch.ones_like(kept)
    rows = [everything, kept, *(kept & ~part.elements for part in parts)]
    if both:
        rows += [~part.elements for part in parts]
    values = [float(value) for value in metric_of(few, rows).mean(1)]
    model, alone, *others = values
    return Worth(
        few.n,
        model,
        alone,
        _by_name(parts, others[: len(parts)]),
        _by_name(parts, others[len(parts) :]) if both else {},
    )


def _strongest(circuit: Circuit) -> Tensor:
    """Kept elements of largest |score|, the first without scores: bool [E]."""
    chosen = torch.zeros_like(circuit.kept)
    chosen[circuit.ranked()[:NODES]] = True
    return chosen


def _by_name(parts: list[Part], values: list[float]) -> dict[str, float]:
    return {part.name: value for part, value in zip(parts, values, strict=True)}


def on_few(setup: Setup, most: int) -> Setup:
    """The same on the first pairs of its largest batch: at most `most`, from `LEAST` to `PAIRS`."""
    batch = max(setup.batches, key=len)
    n = min(len(batch), max(LEAST, min(PAIRS, most)))
    few = batch.take(torch.arange(n))
    return replace(setup, batches=[replace(few, rows=torch.arange(n, device=few.rows.device))])
