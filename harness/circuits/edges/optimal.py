"""Constants for dropped edges that cost least: optimal ablation (Li & Janson 2024).

Every writer w has one constant a_w, the same for all prompts and positions, as under mean ablation.
The constants of all writers are learned together, to

    minimise over a   E[ distance(model, circuit with a) ],

where p ~ U(0, 1), each edge is dropped with probability p, and prompts are the discovery pairs'.
The distance is KL(model ‖ circuit), or the squared error of logits where that is the task's metric.

Li & Janson learn the constants of each circuit apart. Here one set serves all circuits, methods and
the empty circuit, so that scores mean the same for all of them. What a circuit loses with these
constants is therefore an upper bound of what it loses with its own, on the same pairs.

Training. a_w = mean_w + s_w·θ_w, with s_w the root mean square of w's differences from its mean:
writers differ in scale by orders of magnitude. A writer that never changes keeps its mean.
Adam on θ from 0, one mask per step, learning rate falling linearly to 0. On the shipped bracket
and IOI tasks the mean KL on held-out pairs falls from 2.8 and 5.1 nats with means to 1.1 and 3.5;
a thousand steps reach 1.0 and 3.4.

Cost: a step is a plain forward, a masked forward and its backward of `PAIRS` pairs, 1.4 plain
forward+backwards of them for GPT-2 small; then 2·`MASKS` masked forwards of all pairs for the
numbers that are reported. For 128 pairs that is 35 + 7 plain forward+backwards of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.circuits.edges.counterfactuals import Activations, Constants, collect, writer_means
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.backward import masked_logits
from harness.circuits.edges.patched.forward import PatchedModel
from harness.circuits.patchable import plain_logits
from harness.datasets.batch import Batch
from harness.datasets.shuffled import Shuffled
from harness.errors import HarnessError
from harness.metrics import LOSSES
from harness.models.precision import single
from harness.progress import through
from harness.spec.types import Metric

STEPS = 400
PAIRS = 8
"""Prompt pairs of a step. Most of a gradient's noise is the mask's: more pairs help little."""

LEARNING_RATE = 0.1
"""Of θ, whose unit is a writer's own spread."""

MASKS = 8
"""Masks under which constants are judged, their p evenly spread over (0, 1)."""

_BETAS = (0.9, 0.99)
_STREAM = 0x6F7074
"""Keeps these draws apart from those of methods that start from the same seed."""


@dataclass(frozen=True)
class Learned:
    """Constants, and the mean distance under random masks with them and with means.

    Both are of the discovery pairs, under the same masks.
    """

    constants: Constants
    distance: float
    distance_of_means: float

    def notes(self) -> dict[str, float]:
        """For the record."""
        return {
            "optimal/distance": self.distance,
            "optimal/distance_of_means": self.distance_of_means,
        }


def learn_constants(
    patched: PatchedModel,
    batches: Sequence[Batch],
    seed: int,
    metric: Metric = "logit_diff",
    steps: int = STEPS,
) -> Learned:
    """Learn the constants of all writers on clean prompts; `seed` is all that is left to chance.

    Raises `HarnessError` without prompts, for a model with post-norms, or if the distance is no
    longer finite.
    """
    if patched.model.config.post_norms:
        raise HarnessError(
            "ablation 'optimal' is not available for models that normalise what heads write before "
            "they add it (Gemma 2 and 3); choose mean, mean_positional, zero, interchange or "
            "resample"
        )
    objective = _Objective(patched, "squared_error" if metric == "squared_error" else "kl")
    state = np.random.SeedSequence([seed, _STREAM]).generate_state(2)
    training, judging = (torch.Generator().manual_seed(int(one)) for one in state)
    prompts = ((batch.clean, None) for batch in batches)
    means = writer_means(patched.model, prompts, patched.graph.inputs)
    learned = _train(objective, means, batches, training, steps)
    shares = (torch.arange(MASKS) + 0.5) / MASKS
    masks = random_masks(patched.graph, shares, judging)
    before, after = (objective.judged(one, batches, masks) for one in (means, learned))
    return Learned(learned, after, before)


def random_masks(graph: Graph, dropped: Tensor, generator: torch.Generator) -> Tensor:
    """S masks bool like the graph's edges, that lack each edge with probability `dropped` [S]."""
    drawn = torch.rand(len(dropped), *graph.allowed.shape, generator=generator)
    return (drawn >= dropped.view(-1, *[1] * graph.allowed.ndim)) & graph.allowed


@dataclass(frozen=True)
class _Objective:
    """How far circuits are from the model, by one of `LOSSES`."""

    patched: PatchedModel
    name: str

    def counterfactual(self, constants: Constants, batch: Batch) -> Activations:
        """The run in which every writer writes its constant; differentiable."""
        return constants.run(self.patched.model, self.patched.graph.inputs, batch)

    def mean(self, logits: Tensor, whole: Tensor, batch: Batch) -> Tensor:
        """Mean distance of circuits' logits [S, B, P, V] over circuits and pairs."""
        return LOSSES[self.name](logits, whole, batch).mean()

    def judged(self, constants: Constants, batches: Sequence[Batch], masks: Tensor) -> float:
        """Mean distance over all pairs and masks [S, W, R].

        Raises `HarnessError` if it is not finite.
        """
        total = 0.0
        for batch in batches:
            counterfactual = self.counterfactual(constants, batch)
            whole = plain_logits(self.patched.model, batch)
            for mask in masks:
                logits = self.patched.logits(batch, mask[None], counterfactual)
                total += float(self.mean(logits, whole, batch)) * len(batch) / len(masks)
        mean = total / sum(len(batch) for batch in batches)
        if not math.isfinite(mean):
            raise HarnessError(
                f"ablation 'optimal': the mean {self.name} of circuits is {mean}: their logits are "
                "not finite. Choose another ablation"
            )
        return mean


def _train(
    objective: _Objective,
    means: Constants,
    batches: Sequence[Batch],
    generator: torch.Generator,
    steps: int,
) -> Constants:
    patched = objective.patched
    spreads = _spreads(patched, means, batches)
    theta = [single(torch.zeros_like(x)).requires_grad_() for x in means.tensors()]

    def constants() -> Constants:
        moved = zip(means.tensors(), spreads, theta, strict=True)
        return Constants.of([(mean + spread * at).to(mean.dtype) for mean, spread, at in moved])

    optimiser = torch.optim.Adam(theta, lr=LEARNING_RATE, betas=_BETAS)
    parts = _again_and_again(batches, generator)
    for step in through(range(steps), "constants of dropped edges", "step"):
        index, rows = next(parts)
        mask = random_masks(patched.graph, torch.rand(1, generator=generator), generator)
        batch = batches[index].take(rows)
        whole = plain_logits(patched.model, batch)
        logits = masked_logits(patched, batch, mask, objective.counterfactual(constants(), batch))
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
        optimiser.zero_grad(set_to_none=True)
        loss = objective.mean(logits, whole, batch) * len(batch) / PAIRS  # every pair counts alike
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return constants()


def _again_and_again(
    batches: Sequence[Batch], generator: torch.Generator
) -> Iterator[tuple[int, Tensor]]:
    while True:
        yield from Shuffled.of(batches, PAIRS, generator)


@torch.no_grad()
def _spreads(patched: PatchedModel, means: Constants, batches: Sequence[Batch]) -> list[Tensor]:
    """Root mean square of each writer's difference from its mean, one number per writer.

    Over prompts, positions and numbers; shaped to multiply `means.tensors()`.
    """
    total = [mean.new_zeros(mean.shape[:-1]).double() for mean in means.tensors()]
    for batch in batches:
        run = collect(patched.model, batch.clean, patched.graph.inputs)
        written = (run.inputs, *run.heads, *run.mlps)
        for into, x, mean in zip(total, written, means.tensors(), strict=True):
            into.add_((x - mean).double().square().mean(-1).sum_to_size(into.shape))
    tokens = sum(batch.clean.numel() for batch in batches)
    dtype = patched.model.embedding.dtype
    return [(x / tokens).sqrt().to(dtype)[..., None] for x in total]
