"""Attribution patching of nodes (Nanda 2023): what replacing a whole writer does, to first order.

score[w] = - mean over pairs and runs of Σ_positions (x_w - x̃_w) · ∂loss/∂(output of w)

A writer's output goes to its readers and nowhere else, so the gradient there is the sum of the
gradients at its readers, and a node's score is the sum of its edges' EAP (or EAP-IG) scores. That
is how it is computed here; the gradient at an MLP's *input*, which other code took, is another
thing. `steps` 1 takes the gradient at the clean run; k > 1 averages k runs between the two inputs
at the points of `eap_ig` (`input_path`).

Every edge out of a node gets the node's score (MIB: a node in the circuit is all its edges to nodes
in the circuit). So a node's edges are tied. Ties go to the reader that is computed first, and a
circuit of n edges can hold the first few edges of its last node; edges into nodes that are not in
the circuit are dead ends, which are removed. `selection: {rule: greedy}` spends no edge on them.
Cost: that of `eap` or `eap_ig` with as many steps, 0.8 or 0.4 + 0.53·k plain forward+backwards
for GPT-2 small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from harness.discovery.fields import Attributed
from harness.discovery.info import MethodInfo
from harness.discovery.problem import Discovery, Problem
from harness.spec.key import About, Key

if TYPE_CHECKING:
    from torch import Tensor

    from harness.datasets.batch import Batch


@dataclass(frozen=True)
class NodeAttribution:
    """`steps`: runs whose gradients are averaged; `objective`: what is attributed."""

    ABOUT: ClassVar = About("Parameters of `node_attribution`", name="node_attribution")

    steps: Annotated[
        int,
        Key(
            "Steps",
            "Points between the corrupted and the clean input at which the gradient is taken; 1 "
            "takes the clean run alone.",
            [1],
            minimum=1,
            maximum=10_000,
        ),
    ] = 1
    objective: Attributed = "metric"

    def discover(self, problem: Problem) -> Discovery:
        """Score all writers. Raises `HarnessError` if every score would be 0."""
        from harness.discovery.attribution.input_path import path_scores, riemann_points

        points = (1.0,) if self.steps == 1 else riemann_points(problem, self.steps)
        if points == (1.0,):
            problem.refuse_distance("node_attribution", self.objective)

        def growth(batch: Batch) -> Tensor:
            return -path_scores(problem, batch, self.objective, points).double().sum(1)

        total = problem.summed(growth, "node_attribution")
        scores = total / (problem.n_pairs * len(points))
        return Discovery(scores[problem.edges.space.owners])


INFO = MethodInfo(
    kind="node_attribution",
    title="Attribution patching of nodes: a first-order estimate of replacing a whole writer",
    method=NodeAttribution,
    cost="0.8, or 0.4 + 0.53 · steps",
    needs="edges",
    objective="attributed",
    at_model=lambda params, ablation: params.get("steps", 1) == 1,
    per_token=False,
    processes=True,
    passes=lambda params, extent: 0.4 + 0.53 * params["steps"],
    shards=True,
)
