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
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from harness.discovery.fields import Minimised
from harness.discovery.info import MethodInfo
from harness.discovery.masks.settings import (
    BatchSize,
    Draws,
    LearningRate,
    MaskTraining,
    Steps,
    mask_passes,
)
from harness.discovery.problem import Discovery, Problem
from harness.spec.key import About, Key
from harness.spec.types.names import MIB_SIZES

if TYPE_CHECKING:
    from harness.discovery.masks.hard_concrete import ConstrainedHardConcrete

MISSED = 0.02
"""How far from its target the expected sparsity of a training may end without a message."""

_LOG = logging.getLogger("harness")


@dataclass(frozen=True)
class EdgePruning:
    """One training of hard-concrete masks for each target."""

    ABOUT: ClassVar = About("Parameters of `edge_pruning`", name="edge_pruning")

    sparsities: Annotated[
        tuple[Annotated[float, Key(above=0, maximum=2)], ...] | None,
        Key(
            "Sparsities",
            "Targets of the trained share of dropped edges, one training each; above 1 presses on "
            "to the end. Null trains one per measured size; where targets are searched for, one "
            "per size of MIB's grid.",
            [[0.97]],
            min_items=1,
            max_items=100,
        ),
    ] = None
    steps: Steps = 1000
    learning_rate: Annotated[LearningRate, Key(examples=[0.8])] = 0.8
    multiplier_rate: Annotated[
        float,
        Key(
            "Multiplier rate",
            "Step size of the Lagrange multipliers, which climb.",
            [0.8],
            above=0,
            maximum=100,
        ),
    ] = 0.8
    warmup: Annotated[
        float,
        Key(
            "Warm-up",
            "Share of the steps in which the learning rate rises.",
            [0.07],
            minimum=0,
            maximum=1,
        ),
    ] = 0.07
    sparsity_warmup: Annotated[
        float,
        Key(
            "Sparsity warm-up",
            "Share of the steps in which the target rises from 0.",
            [0.8],
            minimum=0,
            maximum=1,
        ),
    ] = 0.8
    batch_size: BatchSize = 32
    draws: Draws = 1
    objective: Minimised = "kl"
    control: Annotated[
        Literal["expected", "sampled"],
        Key(
            "Control",
            "Which sparsity is steered: the closed-form expected one, or that of the mask drawn "
            "at each step, as published.",
            ["expected"],
        ),
    ] = "expected"
    nodes: Annotated[
        bool,
        Key("Nodes", "Whether every writer has a mask of its own beside its edges'.", [False]),
    ] = False
    weight_decay: Annotated[
        float,
        Key(
            "Weight decay",
            "AdamW's; with `sampled` control it is what moves masks out of saturation.",
            [0.01],
            minimum=0,
            maximum=10,
        ),
    ] = 0.0
    start: Annotated[
        float,
        Key(
            "Start",
            "Mean of the masks' parameters at the start.",
            [10.0],
            minimum=-20,
            maximum=20,
        ),
    ] = 10.0
    clamp: Annotated[
        float | None,
        Key(
            "Clamp",
            "Largest magnitude of the masks' parameters; null sets none.",
            [5.0, None],
            above=0,
        ),
    ] = 10.0
    beta2: Annotated[
        float,
        Key(
            "Adam's second beta",
            "How slowly the size of past gradients is forgotten: over about 1/(1 - beta2) steps.",
            [0.99],
            minimum=0,
            below=1,
        ),
    ] = 0.999

    def training(self) -> MaskTraining:
        """How each set of masks is trained."""
        return MaskTraining(
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
        sizes = problem.sizes or [int(share * total) for share in MIB_SIZES]
        wanted = {size for size in sizes if 0 < size < total} or {max(1, total // 10)}
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
    cost="per target and step 0.5 and 0.67 per draw, on `batch_size` pairs",
    objective="minimised",
    processes=True,
    trains_masks=True,
    passes=lambda params, extent: mask_passes(params, extent, "sparsities"),
    shards=True,
)
