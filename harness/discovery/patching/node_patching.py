"""Exact activation patching of nodes: replace one writer for all its readers, run the rest.

score[w] = mean over pairs of loss(model in which w writes x̃_w) - loss(model)

Everything before the writer is the clean run and everything after it the plain model, so only the
layers above are run, many writers in one batch. This is what `node_attribution` approximates.
Every edge out of a node gets the node's score; `node_attribution` says what that does to ties and
to circuits of a given size.
Cost: per writer half a forward on average, (e + L(H+1))/6 plain forward+backwards in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.discovery.fields import OBJECTIVE_ALONE, Attributed
from harness.discovery.info import MethodInfo
from harness.discovery.problem import Discovery, Problem
from harness.progress import stage


@dataclass(frozen=True)
class NodePatching:
    """Every writer, one at a time, exactly. `objective`: the loss whose change is the score."""

    ABOUT: ClassVar = OBJECTIVE_ALONE

    objective: Attributed = "metric"

    def discover(self, problem: Problem) -> Discovery:
        """Score all writers by running the model with each of them replaced."""
        import torch

        from harness.discovery.patching.nodes import NodePatcher

        writers = problem.edges.graph.n_writers
        total = torch.zeros(writers, dtype=torch.float64)
        with stage("node patching", writers * len(problem.batches), "writer") as shown:
            for batch in problem.batches:
                loss = problem.loss(self.objective, batch)
                total += NodePatcher(problem, batch, loss, shown.advance).all()
        return Discovery((total / problem.n_pairs)[problem.edges.space.owners])


INFO = MethodInfo(
    kind="node_patching",
    title="Exact activation patching of nodes: every writer is replaced for all its readers",
    method=NodePatching,
    cost="⅙ per writer",
    needs="edges",
    objective="attributed",
    per_token=False,
    passes=lambda params, extent: extent.writers / 6,
)
