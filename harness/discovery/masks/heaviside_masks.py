"""Masks of zeros and ones learned with a surrogate gradient (Gao et al. 2025), at a price.

    minimise over τ:   objective + λ(t) · share of elements with τ > 0

The mask of an element is 1[τ > 0] in the forward pass; backwards, the step is taken for
sigmoid(τ / T). The price λ is that of all elements together, in units of the objective, and rises
linearly from 0 over the ramp: at a constant price masks are dropped before the objective has told
which are needed, and hardly any comes back. τ starts slightly above 0 and is kept in [-1, 1].

Elements are ranked by τ, and the ranking says something about those with τ > 0 alone, the *active
set*: no circuit is cut beyond it. Where targets are searched for, the search stays inside each
training's active set and the smallest circuit of all trainings is taken; a training whose active
set misses the target is no circuit at all. One training for each price and repeat, and for each of
`trials`, a random search: a price drawn log-uniformly between a third of the smallest and three
times the largest of `prices`, with start noise of its own.

Cost of each training: `steps` of 1.2 plain forward+backwards of their prompts; unlike with other
learned masks, dropped elements are run too, since they need a gradient to come back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from harness.discovery.fields import Minimised
from harness.discovery.info import Extent, MethodInfo, Params
from harness.discovery.masks.settings import BatchSize, LearningRate, MaskTraining, Price, Steps
from harness.discovery.problem import ActiveSet, Discovery, Problem
from harness.spec.key import About, Key

if TYPE_CHECKING:
    from torch import Tensor

    from harness.discovery.masks.heaviside import Heaviside

_BETAS = (0.9, 0.95)
_SPREAD = 3.0


@dataclass(frozen=True)
class HeavisideMasks:
    """One training of masks of zeros and ones for each price, repeat and trial."""

    ABOUT: ClassVar = About("Parameters of `heaviside_masks`", name="heaviside_masks")

    prices: Annotated[
        tuple[Price, ...],
        Key(
            "Prices",
            "What keeping all elements costs, in units of the objective (nats for task_loss).",
            [[1.0], [0.3, 1.0, 3.0]],
            min_items=1,
            max_items=100,
        ),
    ] = (1.0,)
    repeats: Annotated[
        int,
        Key(
            "Repeats",
            "Trainings at each price, each with start noise of its own.",
            [1, 4],
            minimum=1,
            maximum=1000,
        ),
    ] = 1
    trials: Annotated[
        int,
        Key(
            "Trials",
            "Random search: so many further trainings, each at a price drawn between a third of "
            "the smallest and three times the largest of `prices`.",
            [0, 16],
            minimum=0,
            maximum=1000,
        ),
    ] = 0
    steps: Steps = 150
    learning_rate: Annotated[LearningRate, Key(examples=[0.03])] = 0.03
    batch_size: BatchSize = 16
    objective: Minimised = "task_loss"
    ramp: Annotated[
        float,
        Key(
            "Ramp",
            "Share of the steps in which the price rises from 0.",
            [0.7],
            minimum=0,
            maximum=1,
        ),
    ] = 0.7
    temperature: Annotated[
        float,
        Key(
            "Temperature",
            "T of the surrogate sigmoid(τ / T); large ones let far masks learn too.",
            [1.0],
            above=0,
            maximum=100,
        ),
    ] = 1.0
    start: Annotated[
        float,
        Key("Start", "Mean of τ at the start.", [0.1], minimum=-1, maximum=1),
    ] = 0.1
    start_noise: Annotated[
        float,
        Key("Start noise", "Standard deviation of τ at the start.", [0.01], minimum=0, maximum=1),
    ] = 0.01
    weight_decay: Annotated[
        float,
        Key("Weight decay", "AdamW's.", [0.001], minimum=0, maximum=10),
    ] = 0.001
    clip: Annotated[
        float | None,
        Key("Clip", "Largest norm of the gradient of a training; null sets none.", [1.0], above=0),
    ] = 1.0
    tie: Annotated[
        Literal["none", "query_key"],
        Key(
            "Tie",
            "`query_key`: a channel of a layer's keys and the channels of its queries that it is "
            "multiplied with share a mask, since one does nothing without the other; only for "
            "circuits of channels.",
            ["none"],
        ),
    ] = "none"

    def training(self) -> MaskTraining:
        """How each set of masks is trained."""
        return MaskTraining(
            self.steps, self.batch_size, self.objective, betas=_BETAS, zeros_learn=True
        )

    def clipped(self, gradient: Tensor) -> Tensor:
        """The gradient [S, G], each set's scaled down to the largest norm."""
        if self.clip is None:
            return gradient
        norm: Tensor = gradient.norm(dim=-1, keepdim=True)
        return gradient * (self.clip / norm.clamp(min=self.clip))

    def distribution(self, problem: Problem, levels: Sequence[float]) -> Heaviside:
        """Masks of zeros and ones, one set for each price."""
        import torch

        from harness.discovery.masks.heaviside import Heaviside
        from harness.discovery.masks.tied import query_key_groups

        own = torch.arange(len(problem.space))
        groups = own if self.tie == "none" else query_key_groups(problem.space)
        return Heaviside.new(self, problem, levels, groups)

    def discover(self, problem: Problem) -> Discovery:
        """Train one set of masks for each price, repeat and trial."""
        from harness.discovery.masks.training import train_sets

        levels = self._levels(problem)
        labels = [f"{index}:{price:.4g}" for index, price in enumerate(levels)]
        trained = train_sets(problem, self, levels, labels, "heaviside masks at")
        sets = [ActiveSet(scores, int((scores > 0.5).sum())) for scores in trained.scores]
        middle = sorted(range(len(sets)), key=lambda index: sets[index].size)[len(sets) // 2]
        return Discovery(
            sets[middle].scores,
            active=tuple(sets),
            notes=trained.notes,
            earlier_seconds=trained.earlier.wall,
            earlier_processor_seconds=trained.earlier.processor,
        )

    def _levels(self, problem: Problem) -> list[float]:
        import torch

        fixed = [price for price in self.prices for _ in range(self.repeats)]
        low, high = min(self.prices) / _SPREAD, max(self.prices) * _SPREAD
        drawn = torch.rand(self.trials, generator=problem.generator, dtype=torch.float64)
        if low == 0:  # a price of nothing has no logarithm
            return fixed + [high * share for share in drawn.tolist()]
        return fixed + [low * math.exp(math.log(high / low) * share) for share in drawn.tolist()]


def _passes(params: Params, extent: Extent) -> float:
    trainings = float(len(params["prices"]) * params["repeats"] + params["trials"])
    pairs = min(params["batch_size"], extent.pairs)
    return trainings * 1.2 * float(params["steps"] * pairs) / extent.pairs


INFO = MethodInfo(
    kind="heaviside_masks",
    title="Masks of zeros and ones with a surrogate gradient, at a rising price for the share kept",
    method=HeavisideMasks,
    cost="per price and step 1.2, on `batch_size` pairs",
    objective="minimised",
    processes=True,
    trains_masks=True,
    passes=_passes,
    shards=True,
)
