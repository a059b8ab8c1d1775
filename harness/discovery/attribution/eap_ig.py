"""EAP with integrated gradients (Hanna et al. 2024): the gradient averaged over several runs.

score[w, r] = - mean over pairs and runs of Σ_positions (x_w - x̃_w) · ∂loss/∂(input of r)

`inputs` ("EAP-IG-inputs"): k runs whose embeddings go from the counterfactual's towards the clean
    ones, e_j = ẽ + (j/k)·(e - ẽ), j = 0 … k-1 (the library's convention: it starts at the corrupted
    input and never reaches the clean one), or j = 1 … k under zero ablation; `input_path` says why.
    Σ over readers of an input's scores tends to loss(ẽ) - loss(e) as 1/k.
    Cost: one forward for the clean run, k forwards and activation backwards, a mixing product per
    eight runs: 0.4 + 0.53·k plain forward+backwards for GPT-2 small. Under interchange ablation
    the run at j = 0 is the counterfactual itself.
`activations` ("EAP-IG-activations"): k runs for each of the 2L+1 groups (the inputs, the heads of a
    layer, an MLP) whose outputs go from the counterfactual's to the clean ones; `held_groups` has
    the formula.
    Cost: about 0.7 + k·(2L+1)/3 plain forward+backwards, and a mixing product per eight runs of a
    group.
`clean_corrupted`: the two ends alone, each once, whatever `steps` is.
    Cost: two forwards and activation backwards, one mixing product: 1.0 plain forward+backwards
    for GPT-2 small.

Where each position has its own edges, the sums are over pairs and runs alone.
The differences are always those of the two end runs. All three take distances to the whole model
(kl, squared_error) as objective, since they look away from it. Memory: readers' outputs of up to
eight runs and their gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from harness.discovery.fields import Attributed
from harness.discovery.info import Extent, MethodInfo, Params
from harness.discovery.problem import Discovery, Problem
from harness.spec.key import About, Key

if TYPE_CHECKING:
    from torch import Tensor

    from harness.datasets.batch import Batch

Variant = Literal["inputs", "activations", "clean_corrupted"]


@dataclass(frozen=True)
class EapIg:
    """`steps`: points on the straight line between the two ends (the paper's m).

    `variant`: what the gradient is averaged over; `objective`: what is attributed.
    """

    ABOUT: ClassVar = About("Parameters of `eap_ig`", name="eap_ig")

    steps: Annotated[
        int,
        Key(
            "Steps",
            "Points on the line at which the gradient is taken.",
            [5, 20],
            minimum=1,
            maximum=10_000,
        ),
    ] = 5
    variant: Annotated[
        Literal["inputs", "activations", "clean_corrupted"],
        Key(
            "Variant",
            "What the gradient is averaged over: runs between the two `inputs`, runs in which one "
            "layer's `activations` lie between, or the two ends alone (`clean_corrupted`).",
            ["inputs"],
        ),
    ] = "inputs"
    objective: Attributed = "metric"

    def discover(self, problem: Problem) -> Discovery:
        """Score all edges. Raises `HarnessError` if every score would be 0 or without meaning."""
        scores_of, runs = self._runs(problem)
        flat = problem.edges.space.flat
        total = problem.summed(lambda batch: -flat(scores_of(batch)), "eap_ig")
        return Discovery(total / (problem.n_pairs * runs), additive=True)

    def _runs(self, problem: Problem) -> tuple[Callable[[Batch], Tensor], int]:
        """What sums the scores of a batch over all runs [W, R], and how many runs there are."""
        from harness.discovery.attribution.held_groups import held_scores, n_groups
        from harness.discovery.attribution.input_path import path_scores, riemann_points

        objective, steps = self.objective, self.steps
        if self.variant == "activations":
            held = partial(held_scores, problem, objective=objective, steps=steps)
            return held, n_groups(problem.edges.graph) * steps
        ends = (0.0, 1.0)
        points = ends if self.variant == "clean_corrupted" else riemann_points(problem, steps)
        if points == (1.0,):  # one step under zero ablation
            problem.refuse_distance("eap_ig", objective)
        return partial(path_scores, problem, objective=objective, points=points), len(points)


def _passes(params: Params, extent: Extent) -> float:
    if params["variant"] == "clean_corrupted":
        return 1.0
    if params["variant"] == "activations":
        return 0.7 + float(params["steps"]) * (2 * extent.layers + 1) / 3
    return 0.4 + 0.53 * float(params["steps"])


INFO = MethodInfo(
    kind="eap_ig",
    title="EAP with integrated gradients: the gradient averaged over several runs",
    method=EapIg,
    cost="0.4 + 0.53 · steps; of `activations` 0.7 + ⅓ · steps · (2 · layers + 1)",
    needs="edges",
    objective="attributed",
    at_model=lambda params, ablation: (
        params.get("steps") == 1 and params.get("variant") == "inputs" and ablation == "zero"
    ),
    processes=True,
    passes=_passes,
    shards=True,
)
