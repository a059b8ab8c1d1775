"""Uniform gradient sampling (Li & Janson 2024): masks drawn where their gradient is informative.

Each edge has a keeping probability θ. With u ~ U(0, 1) and a window of width w = θ(1-θ), which has
no gradient itself, its mask is
    z = 1 - clip((u - θ)/w + ½, 0, 1),
so that z is uniform in (0, 1) with probability w, else 0 or 1, and its gradient estimates the
effect of the edge averaged over the line from dropped to kept.

    minimise over θ:   objective + price · sum over edges of θ

One training for each price, in units of the objective.

Cost per price: as subnetwork probing, `steps` of 1.1 plain forward+backwards of their prompts for
GPT-2 small by count and 0.67 for every further draw (`masks.training`); `harness bench` measures a
step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from harness.discovery.fields import Minimised
from harness.discovery.info import MethodInfo
from harness.discovery.masks.settings import (
    PRICES,
    BatchSize,
    Draws,
    LearningRate,
    MaskTraining,
    Price,
    Steps,
    mask_passes,
)
from harness.discovery.problem import Discovery, Problem
from harness.spec.key import About, Key

if TYPE_CHECKING:
    from harness.discovery.masks.uniform_window import UniformWindow

_BETAS = (0.9, 0.995)


@dataclass(frozen=True)
class UniformGradientSampling:
    """One training of keeping probabilities for each price."""

    ABOUT: ClassVar = About(
        "Parameters of `uniform_gradient_sampling`", name="uniform_gradient_sampling"
    )

    prices: Annotated[
        tuple[Price, ...],
        Key(
            "Prices",
            "What the keeping probability of each edge costs, in units of the objective (nats for "
            "kl); one training each.",
            [[0.01]],
            min_items=1,
            max_items=100,
        ),
    ] = PRICES
    steps: Steps = 1000
    learning_rate: Annotated[LearningRate, Key(examples=[0.1])] = 0.1
    batch_size: BatchSize = 32
    draws: Draws = 1
    objective: Minimised = "kl"

    def training(self) -> MaskTraining:
        """How each set of masks is trained."""
        return MaskTraining(
            self.steps, self.batch_size, self.objective, draws=self.draws, betas=_BETAS
        )

    def distribution(self, problem: Problem, levels: Sequence[float]) -> UniformWindow:
        """Windows around keeping probabilities, one set for each price."""
        from harness.discovery.masks.uniform_window import UniformWindow

        return UniformWindow.new(problem, levels, self.learning_rate)

    def discover(self, problem: Problem) -> Discovery:
        """Train one set of keeping probabilities per price."""
        from harness.discovery.masks.training import train_masks

        labels = [f"{price:g}" for price in self.prices]
        return train_masks(problem, self, self.prices, labels, "uniform gradient sampling at")


INFO = MethodInfo(
    kind="uniform_gradient_sampling",
    title="Masks drawn where their gradient is informative, at a price for each element",
    method=UniformGradientSampling,
    cost="per price and step 0.5 and 0.67 per draw, on `batch_size` pairs",
    objective="minimised",
    processes=True,
    trains_masks=True,
    passes=lambda params, extent: mask_passes(params, extent, "prices"),
    shards=True,
)
