"""Total influence of features, traced without patching (He et al. 2024).

score[f] = mean over pairs of |Σ_positions activity · ∂(target)/∂(activity)|, everything else frozen

on the clean prompt: norm scales, attention patterns, gates and the choice of active features are
held, and the gradient is that of the whole frozen model, one pass backward (`harness.tracing`). The
target is the mean logit of the right answers minus that of the wrong ones, or minus the mean of all
where there are no wrong ones, added up over the read positions. A feature that the clean prompt
does not use has no influence, and corrupted prompts are not looked at: the score says what taking a
feature away does, to first order, and knows nothing of the ablation. `signed` keeps the sign: then
features that work against the right answers rank last.

Cost: about 3 plain forward+backwards in operations: the frozen run, and one pass back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from harness.discovery.attribution.frozen_features import by_element, mean_over_prompts
from harness.discovery.info import MethodInfo
from harness.discovery.problem import Discovery, Problem
from harness.spec.key import About, Key

if TYPE_CHECKING:
    from torch import Tensor

    from harness.circuits.gates.model import GatedModel
    from harness.tracing.run import FrozenRun
    from harness.tracing.target import Target


@dataclass(frozen=True)
class TracedInfluence:
    """`signed`: whether influences against the right answers count as such."""

    ABOUT: ClassVar = About("Parameters of `traced_influence`", name="traced_influence")

    signed: Annotated[
        bool,
        Key(
            "Signed",
            "Whether influences keep their sign, so that what works against the right answers "
            "ranks last; else the larger of either sign ranks first.",
            [True],
        ),
    ] = False

    def discover(self, problem: Problem) -> Discovery:
        """Score all features, and errors where these are elements.

        Raises `HarnessError` where circuits are not made of features of modules' outputs.
        """
        scores = mean_over_prompts(
            problem, "traced_influence", influence_of_features, signed=self.signed
        )
        return Discovery(scores)


def influence_of_features(model: GatedModel, run: FrozenRun, target: Target) -> Tensor:
    """Total influences of all elements in the prompts of a run, [B, E]."""
    from harness.tracing.influence import total_influence

    return by_element(model, run, total_influence(run, target).parts)


INFO = MethodInfo(
    kind="traced_influence",
    title="Total influence of features in the frozen model, one pass backward, nothing patched",
    method=TracedInfluence,
    cost="about 3",
    needs="dictionaries",
    per_token=False,
    traces=True,
    passes=lambda params, extent: 3.0,
)
