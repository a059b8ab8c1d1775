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
further draw (`mask_training`). Less as circuits get small. `harness bench` measures a step.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from harness.circuits import hard_concrete
from harness.discovery.mask_sets import discover_over
from harness.discovery.mask_training import Training
from harness.discovery.problem import Discovery, Problem
from harness.spec.types import Objective

MISSED = 0.02
"""How far from its target the expected sparsity of a training may end without a warning."""

_START_SPREAD = 0.01
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

    def discover(self, problem: Problem) -> Discovery:
        """Train one set of masks per target."""
        targets = self._targets(problem)
        training = Training(
            self.steps,
            self.batch_size,
            self.objective,
            self.warmup,
            betas=(0.9, self.beta2),
            draws=self.draws,
        )

        def law(part: Sequence[float]) -> ConstrainedMasks:
            return ConstrainedMasks.new(self, problem, part)

        labels = [f"{target:.8g}" for target in targets]
        found = discover_over(problem, targets, labels, law, training, "edge pruning to")
        for label, target in zip(labels, targets, strict=True):
            _say_if_missed(target, found.notes[f"{label}/sparsity"])
        return found

    def _targets(self, problem: Problem) -> list[float]:
        if self.sparsities is not None:
            return list(self.sparsities)
        total = len(problem.space)
        wanted = {size for size in problem.sizes if 0 < size < total} or {max(1, total // 10)}
        return [1 - size / total for size in sorted(wanted)]


def _say_if_missed(target: float, reached: float) -> None:
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


@dataclass
class ConstrainedMasks:
    """Hard-concrete masks and the Lagrange multipliers that hold their sparsity, for S targets."""

    settings: EdgePruning
    targets: Tensor  # [S]
    elements: Tensor  # [S, E]
    nodes: Tensor | None  # [S, N]
    owners: Tensor  # each element's node among these [E]
    multipliers: Tensor  # λ₁, λ₂ [2, S]

    @classmethod
    def new(
        cls, settings: EdgePruning, problem: Problem, targets: Sequence[float]
    ) -> ConstrainedMasks:
        """Masks at the start: almost surely all one."""
        space, like = problem.space, problem.mask_like

        def parameters(count: int) -> Tensor:
            noise = torch.randn(len(targets), count, generator=problem.generator)
            return (settings.start + noise * _START_SPREAD).to(like).requires_grad_()

        return cls(
            settings,
            torch.tensor(targets).to(like),
            parameters(len(space)),
            parameters(len(space.nodes)) if settings.nodes else None,
            space.owners.to(like.device),
            like.new_zeros(2, len(targets)).requires_grad_(),
        )

    @property
    def _masks(self) -> list[Tensor]:
        return [self.elements] if self.nodes is None else [self.elements, self.nodes]

    def groups(self) -> list[dict[str, Any]]:
        """Masks go down; multipliers go up the same loss."""
        decay, lr = self.settings.weight_decay, self.settings.learning_rate
        climb = {"lr": self.settings.multiplier_rate, "maximize": True}
        return [
            {"params": self._masks, "lr": lr, "weight_decay": decay},
            {"params": [self.multipliers], "weight_decay": decay, **climb},
        ]

    def draw(self, generator: torch.Generator) -> Tensor:
        """One mask per set and element [S, E]."""
        drawn = hard_concrete.draw(self.elements, generator)
        if self.nodes is None:
            return drawn
        return drawn * hard_concrete.draw(self.nodes, generator)[:, self.owners]

    def kept(self) -> Tensor:
        """P(z > 0) of each set and element [S, E]."""
        own = hard_concrete.kept(self.elements.double())  # in single precision sure edges would tie
        if self.nodes is None:
            return own
        return own * hard_concrete.kept(self.nodes.double())[:, self.owners]

    def pressure(self, drawn: Tensor, step: int) -> Tensor:
        """λ₁·(s - t) + λ₂·(s - t)² of each set [S]."""
        share = self.kept() if self.settings.control == "expected" else drawn
        warm = self.settings.sparsity_warmup * self.settings.steps
        gap = 1 - share.mean(-1) - self.targets * min(1.0, step / max(warm, 1))
        return self.multipliers[0] * gap + self.multipliers[1] * gap.square()

    @torch.no_grad()
    def stepped(self) -> None:
        """Keep parameters where they can still move."""
        if self.settings.clamp is not None:
            for parameters in self._masks:
                parameters.clamp_(-self.settings.clamp, self.settings.clamp)

    def report(self) -> Mapping[str, Tensor]:
        """Expected sparsity, share of undecided masks, multipliers, of each set [S]."""
        return {
            "sparsity": 1 - self.kept().detach().mean(-1),
            "undecided": hard_concrete.undecided(self.elements.detach()),
            "lambda1": self.multipliers[0].detach(),
            "lambda2": self.multipliers[1].detach(),
        }
