"""Training of one mask per element through the patched pass: the loop that learned masks share.

A `MaskDistribution` says how masks are drawn from its parameters and what presses them towards
zero. The loop draws masks for each step (the same for all prompts of the step), runs the model
under each, and minimises  mean objective + pressure. One draw a step is what is published; where
many edges are needed together, most single draws lack one of them and tell little, and several
draws make the difference between finding a circuit and losing part of it.

Several sets of masks (one for each target or price) are trained side by side, independent of each
other, as many as fit into a budget: small models take hardly longer for many than for one. Noise
and prompts of a step are functions of the seed and the step, so that a training that was stopped
resumes to the same bits.

Cost of a step on B prompts and one set, in plain forward+backwards of these prompts: for each draw
the masked forward, its activation backward and the mixing of writers; and, where they are not kept
from before, one plain forward each for the whole model and for the counterfactual
(`harness bench`). Only the nodes are run that some mask above zero needs, so that steps cost less
as circuits get small. Memory: that of one step, and at most `prompts.BUDGET` for what is kept;
beside it only the token ids of all prompts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness import ranks
from harness.discovery.fingerprint import fingerprint
from harness.discovery.masks.objective import StepObjective
from harness.discovery.masks.resume import parameters_of, restore, save
from harness.discovery.masks.settings import MaskDistribution, MaskMethod, MaskTraining
from harness.discovery.problem import Discovery, Problem
from harness.discovery.spent import Spent
from harness.errors import HarnessError
from harness.metrics import NEGATED
from harness.models.checkpoint import SAVE_SECONDS
from harness.progress import stage

SETS_BUFFER = 2**24
"""Numbers in the writers of all sets that are trained side by side."""

_SHOW_EVERY = 10


def train_masks(
    problem: Problem, method: MaskMethod, levels: Sequence[float], labels: Sequence[str], title: str
) -> Discovery:
    """Train a set of masks for each target or price; the middle one's ranking is the scores.

    Scores are P(mask > 0). Each ranking serves circuits of about the number of elements that its
    masks are expected to keep; of two that keep equally many, the later level's. `labels` name the
    levels in the notes. Raises `HarnessError` if an objective stops being finite.
    """
    sets = train_sets(problem, method, levels, labels, title)
    return Discovery(
        sets.scores[len(sets.scores) // 2],
        {max(1, round(float(scores.sum()))): scores for scores in sets.scores},
        notes=sets.notes,
        earlier_seconds=sets.earlier.wall,
        earlier_processor_seconds=sets.earlier.processor,
    )


class TrainedSets(NamedTuple):
    """What elements are ranked by [E] (`MaskDistribution.kept`) in each trained set, the last
    reports of all by label and name, and what was spent before the search was resumed.
    """

    scores: list[Tensor]
    notes: dict[str, float]
    earlier: Spent


def train_sets(
    problem: Problem, method: MaskMethod, levels: Sequence[float], labels: Sequence[str], title: str
) -> TrainedSets:
    """Train a set of masks for each level. Raises as `train_masks`."""
    training = method.training()
    seed = int(torch.randint(2**30, (), generator=problem.generator))
    objective = StepObjective(problem, training, seed)
    identity = fingerprint(problem) if problem.scratch else {}
    at_once, scores, earlier = _sets_at_once(problem, training), list[Tensor](), Spent()
    notes: dict[str, float] = {}
    for start in range(0, len(levels), at_once):
        some = levels[start : start + at_once]
        distribution = method.distribution(problem, some)
        name = f"{title.replace(' ', '_')}_{start}.safetensors"
        path = problem.scratch / name if problem.scratch else None
        run = MaskRun(distribution, training, objective, seed + start, problem.device, some)
        shown = f"{title} {', '.join(f'{level:.4g}' for level in some)}"
        before = run.finish(shown, path, problem.resolved(training.objective), identity)
        earlier = earlier.plus(before)
        scores += distribution.kept().detach().cpu().double().unbind()
        report = distribution.report()
        for index, label in enumerate(labels[start : start + at_once]):
            notes |= {f"{label}/{name}": float(x[index]) for name, x in report.items()}
    return TrainedSets(scores, notes, earlier)


def _sets_at_once(problem: Problem, training: MaskTraining) -> int:
    tokens = max(
        min(len(batch), training.batch_size) * batch.clean.shape[1] for batch in problem.batches
    )
    return max(1, SETS_BUFFER // (problem.patchable.numbers(tokens) * training.draws))


class MaskRun:
    """A distribution's parameters, their optimiser, and the steps that move them.

    `objective`: see `StepObjective`; `levels`: the targets or prices of its sets.
    """

    def __init__(
        self,
        distribution: MaskDistribution,
        training: MaskTraining,
        objective: Callable[[Tensor, int], Tensor],
        seed: int,
        device: torch.device | str = "cpu",
        levels: Sequence[float] = (),
    ) -> None:
        self.distribution, self.training, self.objective = distribution, training, objective
        self.seed, self.levels = seed, levels
        self.optimiser = torch.optim.AdamW(distribution.groups(), betas=training.betas)
        self._plateau = [group["lr"] for group in self.optimiser.param_groups]
        self._generator = torch.Generator(device)

    def step(self, step: int) -> Tensor:
        """Draw masks, follow the gradient; returns each set's objective [S], detached."""
        for group, rate in zip(self.optimiser.param_groups, self._plateau, strict=True):
            group["lr"] = rate * _triangle(self.training, step)
        noise = self._generator.manual_seed(_noise_seed(self.seed, step))
        drawn = torch.stack([self.distribution.draw(noise) for _ in range(self.training.draws)])
        loss = self.objective(drawn.flatten(0, 1), step).view(len(drawn), -1).mean(0)
        self.optimiser.zero_grad(set_to_none=True)
        (loss + self.distribution.pressure(drawn.mean(0), step)).sum().backward()
        self.optimiser.step()
        self.distribution.stepped()
        return loss.detach()

    def finish(
        self,
        title: str = "masks",
        path: Path | None = None,
        objective: str = "objective",
        problem: Mapping[str, Any] = MappingProxyType({}),
    ) -> Spent:
        """Take all steps, the distribution's parameters moving in place.

        Resumes from the checkpoint at `path` if there is one; returns what was spent before.
        `objective` is the loss's name, as progress shows it; `problem` the `fingerprint` that a
        checkpoint must have.
        """
        first, earlier = restore(self, path, problem)
        began, saved = Spent.now(), time.monotonic()
        last = self.training.steps - 1
        with stage(title, self.training.steps, "step", first) as shown:
            for step in range(first, self.training.steps):
                loss = self.step(step)
                shown.advance()
                if step % _SHOW_EVERY == 0 or step == last:
                    _check_finite(loss, step)
                    shown.advance(0, _note(objective, loss, self.distribution))
                now = time.monotonic()
                if path and (now - saved > SAVE_SECONDS or step == last):
                    spent = earlier.plus(Spent.now().since(began))
                    save(self, step + 1, spent, path, problem)
                    shown.saved()
                    saved = now
        ranks.require_equal("learned masks", parameters_of(self.optimiser))
        return earlier


def _noise_seed(seed: int, step: int) -> int:
    """A seed for a step's noise: 32 bits, since torch's generator for CPUs looks at no more."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])


def _triangle(training: MaskTraining, step: int) -> float:
    """Share of the plateau's learning rate: linear rise over the warm-up, then linear fall to 0."""
    rise = training.warmup * training.steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return (training.steps - step) / (training.steps - rise)


def _check_finite(loss: Tensor, step: int) -> None:
    if not bool(torch.isfinite(loss).all()):
        raise HarnessError(
            f"mask training: the objective is {float(loss.sum())} at step {step}; lower the "
            "learning rate"
        )


# ---------------------------------------------------------------- progress
def _note(objective: str, loss: Tensor, distribution: MaskDistribution) -> str:
    """What stands beside the steps: the objective by its name, and the distribution's report.

    Shown is the share of masks that are saturated, the record that of the others.
    """
    values = {f"-{objective}" if objective in NEGATED else objective: loss}
    for name, value in distribution.report().items():
        values |= {"saturated": 1 - value} if name == "undecided" else {name: value}
    return ", ".join(f"{name} {_range(value)}" for name, value in values.items())


def _range(values: Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.3g}" if len(values) == 1 else f"{low:.3g}…{high:.3g}"
