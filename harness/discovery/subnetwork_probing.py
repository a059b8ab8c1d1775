"""Subnetwork probing (Cao et al. 2021) on edges: hard-concrete masks under a fixed penalty.

    minimise over a:   objective + penalty · mean over edges of P(z > 0)

Where Edge Pruning steers to a wanted sparsity, here the penalty decides it: one training for each
penalty, circuits of n edges are cut from the training whose expected size is nearest to n.
Cost: `steps` · `draws` per penalty, see `mask_training`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.circuits import hard_concrete
from harness.discovery.mask_sets import discover_over
from harness.discovery.mask_training import Training
from harness.discovery.problem import Discovery, Problem
from harness.spec.types import Objective

_START = 3.0
"""Masks begin nearly all one (P(z = 1) = 0.80), yet unsaturated, so that all have a gradient."""


@dataclass(frozen=True)
class SubnetworkProbing:
    """`penalties`: weights of the expected share of kept edges; see `specs/method.schema.json`."""

    penalties: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    steps: int = 1000
    learning_rate: float = 0.1
    batch_size: int = 32
    draws: int = 1
    objective: Objective = "kl"

    def discover(self, problem: Problem) -> Discovery:
        """Train one set of masks per penalty."""
        training = Training(self.steps, self.batch_size, self.objective, draws=self.draws)

        def law(penalties: Sequence[float]) -> PenalisedMasks:
            return PenalisedMasks.new(problem, penalties, self.learning_rate)

        title, labels = "subnetwork probing at", [f"{penalty:g}" for penalty in self.penalties]
        return discover_over(problem, self.penalties, labels, law, training, title)


@dataclass
class PenalisedMasks:
    """Hard-concrete masks with a price on every edge that may be kept."""

    penalties: Tensor  # [S]
    learning_rate: float
    edges: Tensor  # [S, E]

    @classmethod
    def new(
        cls, problem: Problem, penalties: Sequence[float], learning_rate: float
    ) -> PenalisedMasks:
        """Masks at the start."""
        like = problem.mask_like
        edges = like.new_full((len(penalties), problem.graph.n_edges), _START)
        return cls(torch.tensor(penalties).to(like), learning_rate, edges.requires_grad_())

    def groups(self) -> list[dict[str, Any]]:
        """One group, without weight decay."""
        return [{"params": [self.edges], "lr": self.learning_rate, "weight_decay": 0.0}]

    def draw(self, generator: torch.Generator) -> Tensor:
        """One mask per set and edge [S, E]."""
        return hard_concrete.draw(self.edges, generator)

    def pressure(self, drawn: Tensor, step: int) -> Tensor:
        """penalty · mean P(z > 0) of each set [S]."""
        return self.penalties * self.kept().mean(-1)

    def stepped(self) -> None:
        """Nothing to keep in range."""

    def kept(self) -> Tensor:
        """P(z > 0) of each set and edge [S, E]."""
        return hard_concrete.kept(self.edges.double())

    def report(self) -> Mapping[str, Tensor]:
        """Expected sparsity, share of undecided masks, of each set [S]."""
        edges = self.edges.detach()
        return {
            "sparsity": 1 - hard_concrete.kept(edges).mean(-1),
            "undecided": hard_concrete.undecided(edges),
        }
