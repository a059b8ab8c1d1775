"""Running a circuit and the whole model with a set K of elements knocked out of both.

C\\K is the circuit without the elements K, N\\K the whole model with them ablated. K are elements
of the circuit (alone, or random subsets), or whole components: all elements of a head or MLP,
inside and outside of the circuit, as in Wang et al. 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.circuits.space import Space
from harness.evaluation.curve import evaluate_circuits
from harness.evaluation.setup import Setup

Floats = NDArray[np.float64]


def metric_of(setup: Setup, circuits: Sequence[Tensor]) -> Floats:
    """The task's metric of each circuit (bool [E]) on each prompt pair: [C, n]."""
    if not circuits:
        return np.empty((0, setup.n))
    alone = replace(setup, choices=replace(setup.choices, measures=()), classes=())
    return evaluate_circuits(alone, circuits).values["metric"]


def gaps_of(setup: Setup, kept: Tensor, knockouts: Sequence[Tensor]) -> Floats:
    """s(C\\K) - s(N\\K) for each of K knock-outs (bool [E]) on each prompt pair: [K, n]."""
    without = [kept & ~elements for elements in knockouts]
    model_without = [~elements for elements in knockouts]
    values = metric_of(setup, [*without, *model_without])
    gaps: Floats = values[: len(knockouts)] - values[len(knockouts) :]
    return gaps


@dataclass(frozen=True)
class Part:
    """Something that can be knocked out: a name and its elements, bool [E]."""

    name: str
    elements: Tensor


def element_parts(kept: Tensor, space: Space) -> list[Part]:
    """Every element of a circuit alone."""
    parts = []
    for element in kept.nonzero().flatten().tolist():
        alone = torch.zeros_like(kept)
        alone[element] = True
        parts.append(Part(space.name(element), alone))
    return parts


def component_parts(kept: Tensor, space: Space) -> list[Part]:
    """Every component that a circuit has elements of: all of its elements in the whole space."""
    parts = []
    for number, name in enumerate(space.components):
        elements = space.elements_of(number)
        if (kept & elements).any():
            parts.append(Part(name, elements))
    return parts


def random_subsets(
    kept: Tensor, space: Space, share: float, count: int, generator: torch.Generator
) -> list[Tensor]:
    """`count` subsets of a circuit; every element is in each with chance `share`."""
    return [(space.uniform(generator, torch.float32) < share) & kept for _ in range(count)]


def sample(parts: Sequence[Part], most: int, generator: torch.Generator) -> list[Part]:
    """All parts if there are at most `most`, else that many at random, in their order."""
    chosen = torch.randperm(len(parts), generator=generator)[:most].sort().values
    return [parts[index] for index in chosen.tolist()]
