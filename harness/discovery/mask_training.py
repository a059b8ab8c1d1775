"""Training of one mask per edge through the patched pass: the loop that learned masks share.

A `MaskLaw` says how masks are drawn from its parameters and what presses them towards zero. The
loop draws masks for each step (the same for all prompts of the step), runs the model under each,
and minimises  mean objective + pressure. One draw a step is what is published; where many edges
are needed together, most single draws lack one of them and tell little, and several draws make
the difference between finding a circuit and losing part of it.

Several sets of masks (one for each target or price) are
trained side by side, independent of each other, as many as fit into a budget: small models take
hardly longer for many than for one. Noise and prompts of a step are functions of the seed and the
step, so that a training that was stopped goes on as if it had not been.

Cost of a step on B prompts and one set, in plain forward+backwards of these prompts: for each draw
the masked forward, its activation backward and the mixing of writers; and, where they are not kept
from before, one plain forward each for the whole model and for the counterfactual
(`harness bench`). Only the nodes are run that some mask above zero needs, so that steps cost less
as circuits get small. Memory: that of one step, and at most `prompts.BUDGET` for what is kept;
beside it only the token ids of all prompts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from harness.discovery.problem import Problem
from harness.discovery.prompts import BUDGET, Prompts, PromptSource
from harness.errors import HarnessError
from harness.models.behaviour import LOSSES, NEGATED
from harness.models.checkpoint import SAVE_SECONDS, load_state, save_state
from harness.spec.types import Objective

SETS_BUFFER = 2**24
"""Numbers in the writers of all sets that are trained side by side."""

PART = {"cpu": 2**25, "cuda": 2**28}
"""Numbers in the writers of the prompts whose forward and backward run together: 128 MiB in
float32 on a CPU, near its caches; on a GPU 1 GiB, so that its cores have enough to do. More prompts
of a step come one part after the other; their gradients add up."""

_SHOW_EVERY = 10


class MaskLaw(Protocol):
    """S distributions of masks over E edges, with parameters to train."""

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for AdamW; `lr` is that of the plateau."""
        ...

    def draw(self, generator: torch.Generator) -> Tensor:
        """One mask per set and edge [S, E], differentiable; without a slope where it is 0."""
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
        """P(mask > 0) of each set and edge [S, E]: what edges are ranked by."""
        ...

    def report(self) -> Mapping[str, Tensor]:
        """Numbers [S] for the progress bar and the record.

        Among them `sparsity`, the expected share of dropped edges, and `undecided`, that of masks
        that are not saturated.
        """
        ...


@dataclass(frozen=True)
class Training:
    """How long, on how many prompts at a time, and for what.

    `warmup`: share of steps with a rising learning rate. `draws`: masks of each step.
    """

    steps: int
    batch_size: int
    objective: Objective
    warmup: float = 0.0
    draws: int = 1
    betas: tuple[float, float] = (0.9, 0.999)


class Trained(NamedTuple):
    """One set's scores, the size it is expected to have, and its law's last report."""

    scores: Tensor
    expected_size: float
    report: dict[str, float]


LawOf = Callable[[Sequence[float]], MaskLaw]
"""Targets or prices, one for each set, to the law over these sets."""


def train_masks(
    problem: Problem, settings: Sequence[float], law_of: LawOf, training: Training, title: str
) -> tuple[list[Trained], float]:
    """Train a set of masks for each setting; also the seconds spent before a resume.

    Scores are P(mask > 0). Raises `HarnessError` if an objective stops
    being finite.
    """
    seed = int(torch.randint(2**30, (), generator=problem.generator))
    task = task_of(problem, training, seed)
    at_once, found, earlier = _sets_at_once(problem, training), list[Trained](), 0.0
    for start in range(0, len(settings), at_once):
        part = settings[start : start + at_once]
        law = law_of(part)
        name = f"{title.replace(' ', '_')}_{start}.safetensors"
        path = problem.scratch / name if problem.scratch else None
        run = MaskRun(law, training, task, seed + start, problem.device, part)
        shown = f"{title} {', '.join(f'{one:.4g}' for one in part)}"
        earlier += optimise(run, shown, path, problem.resolved(training.objective))
        found += _trained(law, len(part))
    return found, earlier


def _sets_at_once(problem: Problem, training: Training) -> int:
    tokens = max(
        min(len(batch), training.batch_size) * batch.clean.shape[1] for batch in problem.batches
    )
    return max(1, SETS_BUFFER // (problem.patchable.numbers(tokens) * training.draws))


def _trained(law: MaskLaw, sets: int) -> list[Trained]:
    kept = law.kept().detach().cpu().double()
    reports = [{name: float(x[i]) for name, x in law.report().items()} for i in range(sets)]
    return [
        Trained(row, float(row.sum()), report) for row, report in zip(kept, reports, strict=True)
    ]


Task = Callable[[Tensor, int], Tensor]
"""(masks of every draw, set and edge [N, E], step) to the objective under each mask [N]."""


def task_of(problem: Problem, training: Training, seed: int, budget: int = BUDGET) -> Task:
    """The mean objective of a step's prompts under each mask, through the patched pass.

    `budget`: numbers that may be kept of the prompts' counterfactual and whole model, where the
    training sees prompts again.
    """
    patchable, device = problem.patchable, problem.device
    source = PromptSource(problem, training.batch_size, seed, training.steps, budget)
    measure = LOSSES[problem.resolved(training.objective)]

    def part(drawn: Tensor, prompts: Prompts) -> Tensor:
        logits = patchable.masked_logits(
            prompts.batch, drawn, prompts.counterfactual, exact_zeros=True
        )
        return measure(logits, prompts.whole, prompts.batch).sum(-1)

    def task(drawn: Tensor, step: int) -> Tensor:
        prompts = source.at(step)
        count, tokens = len(prompts.batch), prompts.batch.clean.shape[1]
        at_once = part_of(len(drawn) * patchable.numbers(tokens), device.type)
        leaf, total = drawn.detach().requires_grad_(), torch.zeros_like(drawn)
        value = drawn.new_zeros(len(drawn))
        for rows in torch.arange(count).split(at_once):
            loss = part(leaf, prompts if len(rows) == count else prompts.take(rows)) / count
            total += torch.autograd.grad(loss.sum(), leaf)[0]
            value += loss.detach()
        # The value, with the gradient that was found part by part.
        return value + ((drawn - leaf.detach()) * total).sum(-1)

    return task


def part_of(width: int, device: str) -> int:
    """Prompts that run together, whose writers have `width` numbers each; at least one."""
    return max(1, PART[device] // width)


class MaskRun:
    """A law's parameters, their optimiser, and the step that moves them."""

    def __init__(
        self,
        law: MaskLaw,
        training: Training,
        task: Task,
        seed: int,
        device: torch.device | str = "cpu",
        settings: Sequence[float] = (),
    ) -> None:
        self.law, self.training, self.task, self.seed = law, training, task, seed
        self.settings = settings
        self.optimiser = torch.optim.AdamW(law.groups(), betas=training.betas)
        self._plateau = [group["lr"] for group in self.optimiser.param_groups]
        self._generator = torch.Generator(device)

    def step(self, step: int) -> Tensor:
        """Draw masks, go down the slope; returns each set's objective [S], detached."""
        for group, rate in zip(self.optimiser.param_groups, self._plateau, strict=True):
            group["lr"] = rate * _triangle(self.training, step)
        chance = self._generator.manual_seed(_noise_seed(self.seed, step))
        drawn = torch.stack([self.law.draw(chance) for _ in range(self.training.draws)])
        loss = self.task(drawn.flatten(0, 1), step).view(len(drawn), -1).mean(0)
        self.optimiser.zero_grad(set_to_none=True)
        (loss + self.law.pressure(drawn.mean(0), step)).sum().backward()
        self.optimiser.step()
        self.law.stepped()
        return loss.detach()


def _noise_seed(seed: int, step: int) -> int:
    """A seed for a step's noise: 32 bits, since torch's generator for CPUs looks at no more."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1)[0])


def optimise(
    run: MaskRun, title: str = "masks", path: Path | None = None, objective: str = "objective"
) -> float:
    """Take all steps of a training, its law's parameters moving in place.

    Goes on from the checkpoint at `path` where there is one; returns the seconds spent before.
    `objective` is the loss's name, for the progress bar.
    """
    first, earlier = _restore(run, path)
    began = saved = time.monotonic()
    last = run.training.steps - 1
    with tqdm(total=run.training.steps, initial=first, **_bar(title)) as bar:
        for step in range(first, run.training.steps):
            loss = run.step(step)
            bar.update()
            if step % _SHOW_EVERY == 0 or step == last:
                _check_finite(loss, step)
                bar.set_postfix(_shown(objective, loss, run.law))
            now = time.monotonic()
            if path and (now - saved > SAVE_SECONDS or step == last):
                _save(run, step + 1, earlier + now - began, path)
                saved = now
    return earlier


def _bar(title: str) -> dict[str, Any]:
    return {"desc": title, "unit": "step", "disable": None, "leave": False}


def _triangle(training: Training, step: int) -> float:
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


def _shown(objective: str, loss: Tensor, law: MaskLaw) -> dict[str, str]:
    """What the progress bar says: the objective by its name, and the law's report.

    The bar has the share of masks that are saturated, the record that of the others.
    """
    values = {f"-{objective}" if objective in NEGATED else objective: loss}
    for name, value in law.report().items():
        values |= {"saturated": 1 - value} if name == "undecided" else {name: value}
    return {name: _range(value) for name, value in values.items()}


def _range(values: Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:.3g}" if len(values) == 1 else f"{low:.3g}…{high:.3g}"


# ---------------------------------------------------------------- going on after a stop
def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimiser.param_groups for p in group["params"]]


def _made_for(run: MaskRun) -> dict[str, Any]:
    """What a checkpoint must have been made for, so that it can be gone on from."""
    shapes = [list(parameter.shape) for parameter in _parameters(run.optimiser)]
    return {
        "seed": run.seed,
        "training": asdict(run.training),
        "settings": list(run.settings),
        "shapes": shapes,
        "torch": torch.__version__,
    }


def _save(run: MaskRun, step: int, seconds: float, path: Path) -> None:
    tensors = {}
    for index, parameter in enumerate(_parameters(run.optimiser)):
        tensors[f"{index}"] = parameter
        for name, value in run.optimiser.state[parameter].items():
            tensors[f"{index}.{name}"] = value
    note = {"made_for": _made_for(run), "step": step, "seconds": seconds}
    save_state(tensors, json.dumps(note), path)


def _restore(run: MaskRun, path: Path | None) -> tuple[int, float]:
    """First step still to do, and seconds spent before; from the start if made for another run."""
    found = load_state(path) if path else None
    if found is None:
        return 0, 0.0
    tensors, note = found
    state = json.loads(note)
    if state["made_for"] != json.loads(json.dumps(_made_for(run))):
        return 0, 0.0
    for index, parameter in enumerate(_parameters(run.optimiser)):
        parameter.data.copy_(tensors[f"{index}"])
        prefix = f"{index}."
        run.optimiser.state[parameter] = {
            name.removeprefix(prefix): value.to(parameter.device if value.ndim else "cpu")
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
    return int(state["step"]), float(state["seconds"])
