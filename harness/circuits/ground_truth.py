"""Ground truth: the elements that a model needs, found by trying every one of them.

The effect of an element is the largest move of any logit at any read position when that element
alone is ablated in the otherwise whole model. The true elements are those with an effect beyond a
tolerance, and are the ground truth only if they also give the whole model's outputs by themselves
and none of them can be left out. That is so for a compiled program, where the edges' effects are
far apart; it depends on the ablation, on the space and on the prompts.

Where each position has its own elements, a true one is one at a position; positions may stand in
for each other, and then there is no ground truth.

Cost: one pass over all prompts per element, so for small models only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.circuits.circuit import Circuit
from harness.circuits.patchable import Counterfactuals, PatchableModel, plain_logits
from harness.circuits.space import Space
from harness.datasets.batch import Batch
from harness.errors import HarnessError
from harness.models.precision import HALF
from harness.progress import through

TOLERANCE = 1e-3
"""In logits, between rounding (float32: about 1e-6) and the effect of an element that matters."""

_BUFFER = 2**25
"""Numbers in the passes of all masks that are run together."""


class NoGroundTruth(HarnessError):
    """A model of which no single circuit is the true one."""


@dataclass(frozen=True)
class GroundTruth:
    """The true elements of a model, and how clearly they are told from the others.

    `kept` bool and `effects` float64 [E]. `alone`: largest move of a logit when all other elements
    are ablated at once. `inside`: smallest of the largest moves when one more is; infinite for the
    empty circuit.
    """

    space: Space
    kept: Tensor
    effects: Tensor
    alone: float
    inside: float

    @property
    def size(self) -> int:
        """True elements."""
        return int(self.kept.sum())

    @property
    def smallest_effect(self) -> float:
        """The least that a true element moves a logit; infinite without true elements."""
        return float(self.effects[self.kept].min()) if self.size else torch.inf

    @property
    def largest_other(self) -> float:
        """The most that another element moves a logit; 0 if all are true."""
        others = self.effects[~self.kept]
        return float(others.max()) if len(others) else 0.0

    def elements(self) -> Iterator[str]:
        """Names of the true elements, in the order of the files."""
        return Circuit(self.space, self.kept).elements()


def verify(
    patchable: PatchableModel,
    batches: Sequence[Batch],
    counterfactuals: Counterfactuals,
    tolerance: float = TOLERANCE,
) -> GroundTruth:
    """Find the true elements on these prompts and prove that they are the circuit.

    Raises `NoGroundTruth` if they do not give the whole model's outputs by themselves, or one of
    them is not needed among them: then there is no single true circuit. `HarnessError` in half
    precision, whose rounding is beyond the tolerance.
    """
    dtype = patchable.model.embedding.dtype
    if dtype in HALF:
        raise HarnessError(
            f"no ground truth in {str(dtype).removeprefix('torch.')}: rounding alone moves logits "
            f"by more than {tolerance:g}; use float32"
        )
    runs = [(batch, counterfactuals.of(batch)) for batch in batches]
    unit = patchable.space.unit
    effects = element_effects(patchable, runs)
    kept = effects > tolerance
    alone = float(_moves(patchable, runs, kept[None])[0])
    if not alone <= tolerance:
        raise NoGroundTruth(
            f"no ground truth: the {int(kept.sum())} {unit} that matter one by one move a logit by "
            f"{alone:.2g} when they alone are kept (allowed {tolerance:g}); others stand in for "
            "each other"
        )
    moves = _moves(patchable, runs, _without_each(kept))
    inside = float(moves.min()) if len(moves) else torch.inf
    if not inside > tolerance:
        raise NoGroundTruth(
            f"no ground truth: one of the {int(kept.sum())} {unit} that matter in the whole model "
            f"moves no logit by more than {inside:.2g} when they alone are kept"
        )
    return GroundTruth(patchable.space, kept, effects, alone, inside)


def element_effects(patchable: PatchableModel, runs: Sequence[tuple[Batch, Any]]) -> Tensor:
    """Largest move of a logit when one element is ablated: float64 [E].

    `runs`: batches, each with its counterfactual.
    """
    everything = torch.ones(len(patchable.space), dtype=torch.bool)
    return _moves(patchable, runs, _without_each(everything))


def _without_each(kept: Tensor) -> Tensor:
    """A kept set once for each of its elements, without it: [n, E]."""
    elements = kept.nonzero().flatten()
    masks = kept.expand(len(elements), -1).clone()
    masks[torch.arange(len(elements)), elements] = False
    return masks


def _moves(patchable: PatchableModel, runs: Sequence[tuple[Batch, Any]], masks: Tensor) -> Tensor:
    """How far each of S masks moves a logit of the whole model at most: float64 [S]."""
    worst = torch.zeros(len(masks), dtype=torch.float64)
    for batch, counterfactual in through(runs, "true circuit", "batch"):
        whole = plain_logits(patchable.model, batch)
        chunk = max(1, _BUFFER // (patchable.numbers(batch.clean.numel()) + whole.numel()))
        for start in range(0, len(masks), chunk):
            part = masks[start : start + chunk].to(whole.device)
            patched = patchable.logits(batch, part, counterfactual)
            moved = (patched - whole).abs().amax(-1)  # [S, B, P]
            most = moved.where(batch.read, 0).flatten(1).amax(1)
            place = slice(start, start + len(part))
            worst[place] = torch.maximum(worst[place], most.double().cpu())
    return worst
