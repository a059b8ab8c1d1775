"""Exact activation patching of every edge: replace one edge, run the rest, see what changes.

score[w, r] = mean over pairs of loss(model with edge w→r carrying x̃_w) - loss(model).

All other edges are kept, so nothing before reader r changes and everything after it is the plain
model: per edge only r itself and the layers above are run, many edges in one batch. Where each
position has its own edges, score[t, w, r] is that of the edge at position t alone; these need not
add up to score[w, r].
Cost: per edge one forward from the reader's layer on (0.36 of the model on average for GPT-2
small's edges), that is 0.12 plain forward+backwards; two forwards for the clean run and the
counterfactual. `patching.cost` measures it. The reference that gradient methods
approximate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.discovery.fields import OBJECTIVE_ALONE, Attributed
from harness.discovery.info import MethodInfo
from harness.discovery.problem import Discovery, Problem
from harness.progress import stage


@dataclass(frozen=True)
class ActivationPatching:
    """Every edge, one at a time, exactly. `objective`: the loss whose change is the score."""

    ABOUT: ClassVar = OBJECTIVE_ALONE

    objective: Attributed = "metric"

    def discover(self, problem: Problem) -> Discovery:
        """Score all edges by running the model with each of them replaced."""
        import torch

        from harness.discovery.patching.edges import Patcher

        model, graph = problem.model, problem.edges.graph
        total = torch.zeros(graph.allowed.shape, dtype=torch.float64)
        edges = graph.n_edges * len(problem.batches)
        with stage("activation patching", edges, "edge") as shown:
            for batch in problem.batches:
                loss = problem.loss(self.objective, batch)
                patcher = Patcher(problem, batch, loss, shown.advance)
                for layer in range(model.config.n_layers):
                    patcher.attention(layer, total)
                    patcher.mlp(layer, total)
                patcher.logits(total)
        scores = problem.edges.space.flat(total / problem.n_pairs)
        return Discovery(scores, additive=True)


INFO = MethodInfo(
    kind="activation_patching",
    title="Exact activation patching: every edge is replaced alone",
    method=ActivationPatching,
    cost="0.12 per edge",
    needs="edges",
    objective="attributed",
    passes=lambda params, extent: 0.12 * extent.elements,
)
