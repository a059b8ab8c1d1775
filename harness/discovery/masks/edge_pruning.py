"""Edge Pruning (Bhaskar et al. 2024): learned hard-concrete masks under a sparsity constraint.

    minimise over a, maximise over λ:   objective + λ₁·(s - t) + λ₂·(s - t)²

with t the target share of dropped edges, rising linearly from 0 over the sparsity warm-up, and s
the sparsity that is steered:
    expected   s = 1 - mean over edges of P(z > 0), in closed form (default)
    sampled    s = 1 - mean over edges of the drawn z, as published; its gradient vanishes where
               masks are saturated, so that AdamW's weight decay has to move them
With node masks an edge's mask is its own times that of its writer, and P(z > 0) the product. Where
each position has its own edges, so has each writer its node masks.

Edges are ranked by P(z > 0), so that circuits of any size can be cut from one training; by
default one training is made for each size that will be measured.

λ₁ and λ₂ grow about `multiplier_rate` a step while the target is not reached, and an edge is given
up when its price λ/E exceeds what it is worth. Large rates reach any target and break a circuit
that is larger than the target allows; small ones end at a circuit whose every edge is worth more
than λ/E, and a target of 1 is then a price rather than a goal. A saturated mask has no gradient but
its price, which Adam measures against what it remembers (1/(1 - β₂) steps) of the time when the
mask mattered: a short memory lets prices move masks in short trainings.

Cost per target: `steps`, each 1.1 plain forward+backwards of its prompts for GPT-2 small by count,
of which 0.5 are the whole model and the counterfactual where they are not kept, and 0.67 for every
further draw (`masks.training`). Less as circuits get small. `harness bench` measures a step.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.discovery.info import MethodInfo
from harness.discovery.masks.settings import Training
from harness.discovery.problem import Discovery, Problem
from harness.spec.types import Objective

if TYPE_CHECKING:
    from harness.discovery.masks.hard_concrete import ConstrainedHardConcrete

MISSED = 0.02
"""How far from its target the expected sparsity of a training may end without a message."""

_LOG = logging.getLogger("harness")


@dataclass(frozen=True)
class EdgePruning:
    """`sparsities`: targets, one training each; see `specs/method.schema.json` for the others."""

    sparsities: tuple[float, ...] | None = None
    steps: int = 1000
    learning_rate: float = 0.8
    multiplier_rate: float = 0.8
    warmup: float = 0.07
    sparsity_warmup: float = 0.8
    batch_size: int = 32
    draws: int = 1
    objective: Objective = "kl"
    control: Literal["expected", "sampled"] = "expected"
    nodes: bool = False
    weight_decay: float = 0.0
    start: float = 10.0
    clamp: float | None = 10.0
    beta2: float = 0.999

    def training(self) -> Training:
        """How each set of masks is trained."""
        return Training(
            self.steps,
            self.batch_size,
            self.objective,
            self.warmup,
            betas=(0.9, self.beta2),
            draws=self.draws,
        )

    def distribution(self, problem: Problem, levels: Sequence[float]) -> ConstrainedHardConcrete:
        """Hard-concrete masks, one set for each target."""
        from harness.discovery.masks.hard_concrete import ConstrainedHardConcrete

        return ConstrainedHardConcrete.new(self, problem, levels)

    def discover(self, problem: Problem) -> Discovery:
        """Train one set of masks per target."""
        from harness.discovery.masks.training import train_masks

        targets = self._targets(problem)
        labels = [f"{target:.8g}" for target in targets]
        discovery = train_masks(problem, self, targets, labels, "edge pruning to")
        for label, target in zip(labels, targets, strict=True):
            _log_if_missed(target, discovery.notes[f"{label}/sparsity"])
        return discovery

    def _targets(self, problem: Problem) -> list[float]:
        if self.sparsities is not None:
            return list(self.sparsities)
        total = len(problem.space)
        wanted = {size for size in problem.sizes if 0 < size < total} or {max(1, total // 10)}
        return [1 - size / total for size in sorted(wanted)]


def _log_if_missed(target: float, reached: float) -> None:
    """Log that a training ended far from its target; one of 1 is a price, which none reaches.

    No warning: with slow prices a target that is sparser than the circuit is missed on purpose.
    """
    if target < 1 and abs(reached - target) > MISSED:
        _LOG.info(
            "edge pruning ended at an expected sparsity of %.4f, not at its target %.4f: `steps` "
            "and `multiplier_rate` decide how near it comes",
            reached,
            target,
        )


INFO = MethodInfo(
    kind="edge_pruning",
    title="Hard-concrete masks held at a wanted sparsity by Lagrange multipliers",
    method=EdgePruning,
    cost="per target `steps` of about 1.1 of their prompts, 0.67 more for every further draw",
    objective="minimised",
    trains_masks=True,
)
