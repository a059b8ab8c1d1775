"""How much every part of a frozen run moves a target, along all paths: one pass backward.

Held at the values of the run, the model is affine in its leaves (embeddings, positions, biases,
errors of dictionaries, constants), and the target is exactly the sum of what they contribute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.tracing.run import FrozenRun
from harness.tracing.target import Target

BUDGET = ("embed", "position", "error", "bias", "constant", "cut")
"""What a target's value is made of: kinds of leaves; `constant`, biases on the way; `cut`, parts
that hierarchical attribution traces no further."""


@dataclass(frozen=True)
class Influence:
    """Total influences of all parts on one target.

    `parts` [T, C]; 0 where a part does not come before the target. `budget` sums to the target's
    value. `directions`, by writer: that of the stream where it writes, [T, D]; what a part's
    vector is multiplied by.
    """

    parts: Tensor
    budget: Mapping[str, float]
    directions: Sequence[Tensor]


@torch.no_grad()
def total_influence(run: FrozenRun, target: Target, above: float | None = None) -> Influence:
    """Influences on a target through everything that is frozen.

    `above`: hierarchical attribution (Ge et al. 2024, arXiv 2405.13868): parts whose influence is
    not larger pass nothing on, which leaves what works through influential parts alone.
    """
    direction = target.stream[None].clone()
    budget = dict.fromkeys(BUDGET, 0.0)
    budget["constant"] = target.constant
    parts: list[Tensor] = []
    directions: list[Tensor] = []
    # What is still to come for each stream, by how many writers come before it.
    waiting: dict[int, Tensor] = {}
    for at in reversed(range(len(run.writers))):
        writer = run.writers[at]
        if (late := waiting.pop(at + 1, None)) is not None:
            direction = direction + late
        own = direction if at < target.below else torch.zeros_like(direction)
        passed = writer.back(own, above)
        if writer.reading is not None:
            waiting[writer.below] = waiting.get(writer.below, 0) + passed.stream
        parts.append(passed.influence[0])
        directions.append(own[0])
        budget["constant"] += float(passed.constant)
        budget["cut"] += float(passed.cut)
        for column in range(writer.columns if writer.reading is None else len(writer.tail_kinds)):
            place = column if writer.reading is None else writer.own + column
            kind = writer.kind_of(place)
            budget[kind] += float(passed.influence[0, :, place].sum())
    return Influence(torch.cat(parts[::-1], -1), budget, tuple(directions[::-1]))
