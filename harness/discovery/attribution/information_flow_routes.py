"""Information flow routes (Ferrando & Voita 2024): how much of a reader's input a writer is.

With y the stream that a reader sees in the clean run, and x_w what writer w wrote into it (of a
head whose layer is normalised on its way: what y would lose without the head),
    proximity[w, r] = max(0, ‖y‖₁ - ‖y - x_w‖₁)
    score[w, r]     = mean over pairs and positions of proximity[w, r] / Σ_w proximity[w, r]
No gradient, no metric, no counterfactual: what the prompt is about does not enter. Readers of one
stream (q, k, v of a layer's heads) have equal scores. What belongs to no writer (positions, output
biases of heads) is in y and has no share. Zero where no writer is close to the stream.

As in MIB, circuits are grown backwards from the logits (`selection: {rule: greedy}`): shares at
different readers are not comparable, but the best into a node that is already in is a route.
Cost: a third of a plain forward+backward, and 2L+1 passes over the outputs of all writers before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from harness.discovery.fields import NO_PARAMS
from harness.discovery.info import MethodInfo
from harness.discovery.problem import Discovery, Problem


@dataclass(frozen=True)
class InformationFlowRoutes:
    """Every writer's share of every reader's input, on the clean prompts alone."""

    ABOUT: ClassVar = NO_PARAMS

    def discover(self, problem: Problem) -> Discovery:
        """Score all edges from one clean run per batch."""
        from harness.discovery.attribution.stream_shares import shares

        total = problem.summed(partial(shares, problem), "information_flow_routes")
        return Discovery(problem.edges.space.flat(total / problem.n_pairs))


INFO = MethodInfo(
    kind="information_flow_routes",
    title="Information flow routes: how much of a reader's input each writer is",
    method=InformationFlowRoutes,
    cost="⅓, and 2 · layers + 1 passes over all writers",
    needs="edges",
    per_token=False,
    processes=True,
    passes=lambda params, extent: 1 / 3 + 0.05 * (2 * extent.layers + 1),
    shards=True,
)
