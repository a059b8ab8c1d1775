"""What a step of mask training minimises: the mean objective of its prompts under each mask.

This is the only place where the training of masks runs the model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness import ranks
from harness.discovery.masks.prompts import BUDGET, StepPrompts
from harness.discovery.masks.settings import MaskTraining
from harness.discovery.problem import Problem
from harness.metrics import LOSSES

PROMPTS_BUFFER = {"cpu": 2**25, "cuda": 2**28}
"""Numbers in the writers of the prompts whose forward and backward run together: 128 MiB in
float32 on a CPU, near its caches; on a GPU 1 GiB, so that its cores have enough to do. More prompts
of a step come one part after the other; their gradients add up."""


class StepObjective:
    """(masks of every draw, set and element [N, E], step) to the objective under each mask [N].

    `budget`: numbers that may be kept of the prompts' counterfactual and whole model, where the
    training sees prompts again.
    """

    def __init__(
        self, problem: Problem, training: MaskTraining, seed: int, budget: int = BUDGET
    ) -> None:
        self.patchable, self.device = problem.patchable, problem.device.type
        self.loss = LOSSES[problem.resolved(training.objective)]
        self.exact_zeros = not training.zeros_learn
        self.prompts = StepPrompts(problem, training.batch_size, seed, training.steps, budget)

    def __call__(self, masks: Tensor, step: int) -> Tensor:
        """Mean over the prompts of the step; differentiable with respect to the masks."""
        prompts = self.prompts.at(step)
        count, tokens = prompts.of, prompts.batch.clean.shape[1]
        at_once = prompts_at_once(len(masks) * self.patchable.numbers(tokens), self.device)
        leaf, gradient = masks.detach().requires_grad_(), torch.zeros_like(masks)
        value = masks.new_zeros(len(masks))
        for rows, counts in ranks.parts(count, at_once):
            some = prompts if len(rows) == len(prompts.batch) else prompts.take(rows)
            logits = self.patchable.masked_logits(
                some.batch, leaf, some.counterfactual, exact_zeros=self.exact_zeros
            )
            loss = self.loss(logits, some.whole, some.batch).sum(-1) / count
            of_part = torch.autograd.grad(loss.sum(), leaf)[0]
            if counts:
                gradient += of_part
                value += loss.detach()
        gradient, value = ranks.summed(gradient), ranks.summed(value)
        # The value, with the gradient that was summed part by part.
        return value + ((masks - leaf.detach()) * gradient).sum(-1)


def prompts_at_once(width: int, device: str) -> int:
    """Prompts that run together, whose writers have `width` numbers each; at least one."""
    return max(1, PROMPTS_BUFFER[device] // width)
