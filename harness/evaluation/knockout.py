"""Running a circuit and the whole model with a set K of edges knocked out of both.

C\\K is the circuit without the edges K, N\\K the whole model with them ablated. K are edges of the
circuit (alone, or random subsets), or whole nodes: all edges out of a head or MLP, inside the
circuit and outside, so that the node is gone from both, as in Wang et al. 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.graph import Graph
from harness.circuits.patching import PatchedModel
from harness.circuits.reference import References
from harness.datasets.batch import Batch
from harness.errors import HarnessError
from harness.evaluation.curve import evaluate_circuits
from harness.spec.types import Evaluation

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Runner:
    """A model, prompt pairs and choices: what circuits are run on."""

    patched: PatchedModel
    batches: Sequence[Batch]
    references: References
    choices: Evaluation

    @property
    def graph(self) -> Graph:
        """The graph whose edges circuits keep."""
        return self.patched.graph

    @property
    def n(self) -> int:
        """Prompt pairs."""
        return sum(len(batch) for batch in self.batches)

    def metric(self, circuits: Sequence[Tensor]) -> Floats:
        """The task's metric of each circuit (bool like the graph's) on each prompt pair: [C, n]."""
        if not circuits:
            return np.empty((0, self.n))
        alone = replace(self.choices, measures=())
        found = evaluate_circuits(self.patched, self.batches, self.references, circuits, alone)
        return found.values["metric"]

    def gaps(self, kept: Tensor, knockouts: Sequence[Tensor]) -> Floats:
        """s(C\\K) - s(N\\K) for each of K knock-outs on each prompt pair: [K, n]."""
        without = [kept & ~edges for edges in knockouts]
        model_without = [self.graph.allowed & ~edges for edges in knockouts]
        values = self.metric([*without, *model_without])
        gaps: Floats = values[: len(knockouts)] - values[len(knockouts) :]
        return gaps


def check_circuit(circuit: Circuit, patched: PatchedModel) -> None:
    """Refuse a circuit that cannot be one of this model."""
    if circuit.graph != patched.graph:
        raise HarnessError(
            f"the circuit's graph is {circuit.graph}, the model's is {patched.graph}: it is a "
            "circuit of another model, or was found with other `inputs` or `positions`, or prompts "
            "of another length"
        )
    width = patched.model.config.d_model
    if circuit.d_model not in (0, width):
        raise HarnessError(
            f"the circuit was found in a model with d_model {circuit.d_model}, this one has {width}"
        )
    if not circuit.kept.any():
        raise HarnessError("the circuit keeps no edge: there is nothing to judge")


@dataclass(frozen=True)
class Part:
    """Something that can be knocked out: a name and its edges, bool like the graph's."""

    name: str
    edges: Tensor


def edge_parts(kept: Tensor, graph: Graph) -> list[Part]:
    """Every edge of a circuit alone, by position where each has its own, row, then column."""
    parts = []
    for edge in kept.nonzero().tolist():
        edges = torch.zeros_like(kept)
        edges[tuple(edge)] = True
        parts.append(Part(graph.edge_name(*edge), edges))
    return parts


def node_parts(kept: Tensor, graph: Graph) -> list[Part]:
    """Every head and MLP that a circuit reads from: all its edges of the whole graph.

    At all positions, also where each has edges of its own.
    """
    parts = []
    for row in range(graph.n_inputs, graph.n_writers):
        if kept[..., row, :].any():
            edges = torch.zeros_like(kept)
            edges[..., row, :] = graph.allowed[..., row, :]
            parts.append(Part(graph.writers[row], edges))
    return parts


def random_subsets(
    kept: Tensor, share: float, count: int, generator: torch.Generator
) -> list[Tensor]:
    """`count` subsets of a circuit; every edge is in each with chance `share`."""
    return [(torch.rand(kept.shape, generator=generator) < share) & kept for _ in range(count)]


def sample(parts: Sequence[Part], most: int, generator: torch.Generator) -> list[Part]:
    """All parts if there are at most `most`, else that many at random, in their order."""
    chosen = torch.randperm(len(parts), generator=generator)[:most].sort().values
    return [parts[index] for index in chosen.tolist()]
