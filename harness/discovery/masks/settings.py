"""What methods that learn masks share: their params, and what they say to the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from harness.discovery.info import Extent, Params
from harness.spec.key import Key
from harness.spec.types import Objective

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.discovery.problem import Problem

Steps = Annotated[
    int,
    Key("Steps", "Optimiser steps of each training.", [1000], minimum=1, maximum=1_000_000),
]
LearningRate = Annotated[
    float,
    Key("Learning rate", "Step size of the masks' parameters.", above=0, maximum=100),
]
BatchSize = Annotated[
    int,
    Key("Batch size", "Prompt pairs of each step.", [32], minimum=1, maximum=65536),
]
Draws = Annotated[
    int,
    Key(
        "Draws",
        "Masks drawn in each step, each run on all its prompts; their objectives are averaged. A "
        "step costs that many times as much.",
        [8],
        minimum=1,
        maximum=1024,
    ),
]
Price = Annotated[float, Key(minimum=0)]
PRICES = (0.001, 0.003, 0.01, 0.03, 0.1)


class MaskDistribution(Protocol):
    """S distributions of masks over E elements, with parameters to train."""

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for AdamW; `lr` is that of the plateau."""
        ...

    def draw(self, generator: torch.Generator) -> Tensor:
        """One mask per set and element [S, E], differentiable.

        Without a gradient where it is 0, unless the training's `zeros_learn` says otherwise.
        """
        ...

    def pressure(self, drawn: Tensor, step: int) -> Tensor:
        """The part of each set's loss that makes masks small [S].

        `drawn` [S, E] is the mean of this step's masks.
        """
        ...

    def stepped(self) -> None:
        """Called after each step, to keep parameters in range."""
        ...

    def kept(self) -> Tensor:
        """What elements are ranked by, mostly P(mask > 0), of each set and element [S, E]."""
        ...

    def report(self) -> Mapping[str, Tensor]:
        """Numbers [S] for the progress bar and the record.

        Among them `sparsity`, the expected share of dropped elements, and `undecided`, that of
        masks that are not saturated.
        """
        ...


@dataclass(frozen=True)
class MaskTraining:
    """How long, on how many prompts at a time, and for what.

    `warmup`: share of steps with a rising learning rate. `draws`: masks of each step.
    `zeros_learn`: whether masks that are exactly 0 have a gradient, so that elements without it
    must be run too.
    """

    steps: int
    batch_size: int
    objective: Objective
    warmup: float = 0.0
    draws: int = 1
    betas: tuple[float, float] = (0.9, 0.999)
    zeros_learn: bool = False


def mask_passes(params: Params, extent: Extent, levels: str) -> float:
    """Plain forward+backwards of all pairs that trainings take: half of a step is the whole model.

    `levels`: the parameter with a target or price for each training; null is one for each circuit.
    """
    trainings = extent.circuits if params[levels] is None else len(params[levels])
    step = 0.5 + 0.67 * float(params["draws"])
    pairs = min(params["batch_size"], extent.pairs)
    return trainings * step * float(params["steps"] * pairs) / extent.pairs


class MaskMethod(Protocol):
    """A method that learns masks, one set for each of several targets or prices."""

    def training(self) -> MaskTraining:
        """How its masks are trained."""
        ...

    def distribution(self, problem: Problem, levels: Sequence[float]) -> MaskDistribution:
        """The masks at the start: one set for each target or price of `levels`."""
        ...
