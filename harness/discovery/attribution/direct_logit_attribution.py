"""Direct logit attribution of features: what each writes towards the right answers itself.

score[f] = mean over pairs of |Σ_positions activity · direction · ∂(target)/∂(stream)|

on the clean prompt, with the last norm held at its scale (nostalgebraist 2020; Elhage et al. 2021).
The target is that of `traced_influence`, and so is all else, but for the paths: what a feature does
through later modules does not count. With `of: modules` every feature of a module has the module's
own attribution, all that it writes together, and which of them comes first is left to chance: what
is known of a model without dictionaries.

Cost: about 3 plain forward+backwards in operations, as of `traced_influence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from harness.discovery.attribution.frozen_features import (
    by_element,
    mean_over_prompts,
    writer_of,
)
from harness.discovery.info import MethodInfo
from harness.discovery.problem import Discovery, Problem
from harness.spec.key import About, Key

if TYPE_CHECKING:
    from torch import Tensor

    from harness.circuits.gates.model import GatedModel
    from harness.tracing.run import FrozenRun
    from harness.tracing.target import Target

CHANCE = 1e-9
"""Share of a module's score that tells its features apart."""


@dataclass(frozen=True)
class DirectLogitAttribution:
    """`of`: what is attributed; `signed`: whether what works against right answers ranks last."""

    ABOUT: ClassVar = About(
        "Parameters of `direct_logit_attribution`", name="direct_logit_attribution"
    )

    of: Annotated[
        Literal["features", "modules"],
        Key(
            "Of",
            "`features`: each feature's own attribution; `modules`: that of its module, and chance "
            "among the features of one.",
            ["modules"],
        ),
    ] = "features"
    signed: Annotated[
        bool,
        Key(
            "Signed",
            "Whether attributions keep their sign, so that what works against the right answers "
            "ranks last; else the larger of either sign ranks first.",
            [True],
        ),
    ] = False

    def discover(self, problem: Problem) -> Discovery:
        """Score all features, and errors where these are elements.

        Raises `HarnessError` where circuits are not made of features of modules' outputs.
        """
        import torch

        scores = mean_over_prompts(
            problem,
            "direct_logit_attribution",
            _of_modules if self.of == "modules" else _of_features,
            signed=self.signed,
        )
        if self.of == "modules":
            scores *= 1 + CHANCE * problem.space.uniform(problem.generator, torch.float64)
        return Discovery(scores)


def _of_features(model: GatedModel, run: FrozenRun, target: Target) -> Tensor:
    return by_element(model, run, run.influence(target.stream[None], target.below)[0])


def _of_modules(model: GatedModel, run: FrozenRun, target: Target) -> Tensor:
    """Of every element what its module writes towards the target, biases and errors too: [B, E]."""
    import torch

    scores = []
    for gates in model.space.gates:
        written = run.writers[writer_of(run, gates.name)].output()
        towards = (written.double() * target.stream.double()).sum(-1).cpu()
        whole = towards.view(run.prompts, -1).sum(1, keepdim=True)
        scores.append(whole.expand(-1, gates.elements))
    return torch.cat(scores, 1)


INFO = MethodInfo(
    kind="direct_logit_attribution",
    title="What features write towards the right answers themselves, nothing patched",
    method=DirectLogitAttribution,
    cost="about 3",
    needs="dictionaries",
    per_token=False,
    traces=True,
    passes=lambda params, extent: 3.0,
)
