"""One step of the weights: treat the gradient, step AdamW, project onto the budgets, decay.

Gradients and moments stay dense: an entry that was set to zero comes back when its update is large
enough.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.models.training.adam import moments, take_up
from harness.models.training.budgets import budgets, kind_of_tensor, rate_factor
from harness.models.training.projection import project
from harness.models.training.schedule import learning_rate
from harness.models.transformer import Transformer
from harness.spec.types import Sparsity, Training

RMS_EPSILON = 1e-5
"""Added to the root mean square that gradients are divided by, as in the script of Gao et al."""


class Optimiser:
    """AdamW of a model's parameters, with the budgets of a sparse one."""

    def __init__(self, model: Transformer, spec: Training, sparsity: Sparsity | None) -> None:
        self.spec, self.sparsity = spec, sparsity
        self.weights: dict[str, Tensor] = dict(model.named_parameters())
        self.budgets = {} if sparsity is None else budgets(model.config, sparsity)
        self.decayed: list[Tensor] = [
            weight
            for name, weight in self.weights.items()
            if weight.ndim >= 2 and kind_of_tensor(name) != "dense"
        ]
        self.adam = self._adam()

    def _adam(self) -> torch.optim.AdamW:
        spec = self.spec
        decay = spec.weight_decay if spec.decay == "before_step" else 0.0
        decayed = {id(weight) for weight in self.decayed}
        others = [weight for weight in self.weights.values() if id(weight) not in decayed]
        groups = [
            {"params": self.decayed, "weight_decay": decay},
            {"params": others, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        return torch.optim.AdamW(
            groups,
            lr=spec.learning_rate,
            betas=(spec.beta1, spec.beta2),
            eps=spec.epsilon,
            fused=True,
        )

    def clear(self) -> None:
        """Forget the gradients."""
        self.adam.zero_grad(set_to_none=True)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """The step numbered `step`, from 0, for the gradients that the weights have."""
        rate, progress = learning_rate(self.spec, step), (step + 1) / self.spec.steps
        if self.sparsity is not None:
            rate *= rate_factor(self.sparsity, progress)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self._treat_gradients()
        self.adam.step()
        self.project(progress)
        if self.spec.decay == "after_step" and self.spec.weight_decay:
            torch._foreach_mul_(self.decayed, 1 - self.spec.weight_decay * rate)

    def project(self, progress: float) -> None:
        """Leave every tensor with its budget after `progress` of all steps."""
        if self.sparsity is None:
            return
        for name, budget in self.budgets.items():
            most = budget.at(self.sparsity, progress)
            project(self.weights[name].data, most, budget.least, budget.axis)

    def is_final(self, steps: int) -> bool:
        """Whether after so many steps the budgets are what they will be at the end."""
        return self.sparsity is None or steps / self.spec.steps >= self.sparsity.anneal.end

    def reserved(self) -> str:
        """What the fewest entries of neurons take of the budgets; empty where there are none."""
        if self.sparsity is None or not self.sparsity.min_per_neuron:
            return ""
        shares = [budget.reserved for budget in self.budgets.values() if budget.least]
        return (
            f"min_per_neuron: {self.sparsity.min_per_neuron} entries of each neuron take "
            f"{min(shares):.0%} to {max(shares):.0%} of the budgets of the blocks' matrices"
        )

    def _treat_gradients(self) -> None:
        spec, weights = self.spec, list(self.weights.values())
        if spec.gradient == "clip_norm":
            torch.nn.utils.clip_grad_norm_(weights, spec.clip)
            return
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        root = sum(weight.numel() for weight in weights) ** 0.5
        size = torch.nn.utils.get_total_norm(gradients) / root
        if spec.gradient == "divide_by_rms":
            torch._foreach_div_(gradients, size + RMS_EPSILON)
        else:
            torch._foreach_mul_(gradients, (spec.clip / size).clamp(max=1.0))

    # ------------------------------------------------------------ checkpoints
    def state(self) -> dict[str, Tensor]:
        """The moments of every weight, by name."""
        return moments(self.adam, self.weights)

    def restore(self, state: dict[str, Tensor], step: int) -> None:
        """Take up the moments that `state` gave after `step` steps."""
        take_up(self.adam, self.weights, state, step)
