"""Completeness: circuit and model stay alike when the same elements are knocked out of both.

    incompleteness(K) = |F(C\\K) - F(N\\K)|, F the mean metric (Wang et al. 2023); 0 is best

A circuit that lacks back-up parts is faithful but not complete: only after a knock-out do they
matter. No circuit can be tried on all 2^|C| sets, so the worst one is searched for: by adding part
after part (`greedy_knockout`), or by learning a mask (`learned_knockout`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.circuits import hard_concrete
from harness.datasets.batch import Batch
from harness.evaluation.knockout import Floats, Part, gaps_of, sample
from harness.evaluation.setup import Setup
from harness.metrics import LOSSES
from harness.models.precision import single
from harness.progress import through

_LEARNING_RATE = 0.2
_START = 0.0
"""Where a mask is neither 0 nor 1 most of the time, so that it can still go both ways."""


def incompleteness(gaps: Floats) -> Floats:
    """|mean gap| of each knock-out [K], from gaps [K, n]; in the metric's unit."""
    sizes: Floats = np.abs(gaps.mean(1))
    return sizes


def greedy_knockout(
    setup: Setup,
    kept: Tensor,
    parts: Sequence[Part],
    steps: int,
    width: int,
    generator: torch.Generator,
) -> Part:
    """The worst K met while parts are added one by one, each the worst of `width` random ones.

    Wang et al. 2023, appendix. Starts at K = ∅, which is also the answer if no K is worse. Cost:
    steps·width circuits, twice.
    """
    worst = chosen = Part("nothing", torch.zeros_like(kept))
    highest = float(incompleteness(gaps_of(setup, kept, [chosen.elements]))[0])
    left = list(parts)
    for _ in through(range(min(steps, len(left))), "searching the worst knock-out", "part"):
        tried = sample(left, width, generator)
        scores = incompleteness(gaps_of(setup, kept, [chosen.elements | p.elements for p in tried]))
        best = int(scores.argmax())
        name = (
            tried[best].name if chosen.name == "nothing" else f"{chosen.name}, {tried[best].name}"
        )
        chosen = Part(name, chosen.elements | tried[best].elements)
        left = [part for part in left if part is not tried[best]]
        if scores[best] > highest:
            worst, highest = chosen, float(scores[best])
    return worst


@dataclass(frozen=True)
class Learner:
    """How a knock-out is learned: Adam steps, each on `pairs` prompt pairs of one batch."""

    steps: int = 100
    pairs: int = 32


def learned_knockout(setup: Setup, kept: Tensor, learner: Learner, seed: int) -> Part:
    """The K that a mask z on the circuit's elements finds, made to pull C\\K and N\\K apart.

    Maximises the mean of KL(N\\K ‖ C\\K) (squared error of logits where that is the task's
    metric); an element is in K if P(z > 0) < ½. auto-circuit's same-under-knockout measure, with
    any ablation. Cost: `steps` forward+backwards of two masked passes.
    """
    like = single(setup.model.embedding.new_empty(0))  # masks are never in half precision
    generator = torch.Generator(like.device).manual_seed(seed)
    inside = kept.to(like.device)
    place = inside.nonzero().flatten()
    a = torch.full((len(place),), _START, device=like.device, dtype=like.dtype).requires_grad_()
    optimiser = torch.optim.Adam([a], lr=_LEARNING_RATE)
    outside = (~inside).to(like.dtype)
    for step in through(range(learner.steps), "learning a knock-out", "step"):
        z = hard_concrete.draw(a, generator)
        circuit = torch.zeros_like(outside).index_copy(0, place, z)
        batch = _some(setup.batches[step % len(setup.batches)], learner.pairs, generator)
        loss = -_distance(setup, batch, torch.stack([circuit, circuit + outside]))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    elements = torch.zeros_like(kept)
    elements[kept] = (hard_concrete.kept(a.detach()) < 0.5).cpu()
    return Part(f"{int(elements.sum())} {setup.space.unit}", elements)


def _some(batch: Batch, count: int, generator: torch.Generator) -> Batch:
    """At most `count` random pairs of a batch."""
    rows = torch.randperm(len(batch), generator=generator, device=generator.device)[:count]
    return batch.take(rows)


def _distance(setup: Setup, batch: Batch, masks: Tensor) -> Tensor:
    """Mean distance of the two masked passes, circuit and model [2, E]."""
    counterfactual = setup.counterfactuals.of(batch)
    circuit, model = setup.patchable.masked_logits(batch, masks, counterfactual)
    name = "squared_error" if setup.choices.metric == "squared_error" else "kl"
    return LOSSES[name](circuit, model, batch).mean()
