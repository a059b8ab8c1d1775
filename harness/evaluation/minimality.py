"""Minimality: every part of a circuit matters.

    effect(v) = max over K of |F(C\\(K ∪ v)) - F(C\\K)|   (Wang et al. 2023), F the mean metric
    δ(e)      = mean over prompt pairs of (s(C) - s(C\\e))²   (Shi et al. 2024)

Wang et al. choose a K for each part by hand; here K runs over ∅ and some random subsets of the
circuit. δ is compared with that of elements added at random: `random_effects`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from harness.circuits.space import RandomWalks
from harness.evaluation.knockout import Floats, Part, metric_of
from harness.evaluation.setup import Setup

_TRIES = 1000


def effects(
    setup: Setup, kept: Tensor, parts: Sequence[Part], knockouts: Sequence[Tensor]
) -> Floats:
    """s(C\\K) - s(C\\(K ∪ v)) for each part v, knock-out K and prompt pair: [V, K, n]."""
    around = [kept & ~elements for elements in knockouts]
    without = [rest & ~part.elements for part in parts for rest in around]
    values = metric_of(setup, [*around, *without])
    before, after = values[: len(around)], values[len(around) :]
    return before - after.reshape(len(parts), *before.shape)


def squared_effects(changes: Floats) -> Floats:
    """δ [E] from changes s(C) - s(C\\e) [E, n]."""
    squares: Floats = np.square(changes).mean(1)
    return squares


def random_effects(setup: Setup, kept: Tensor, count: int, generator: torch.Generator) -> Floats:
    """δ of `count` random elements, each added on a random path of its own: [count], maybe fewer.

    The circuit C is inflated by one random path (`Space.walks`); one random element of the path
    that C lacks is dropped again. Empty if no path has an element that C lacks.
    """
    inflated, dropped, walks = [], [], setup.space.walks()
    for _ in range(count):
        inflation = _inflate(walks, kept, generator)
        if inflation is None:
            break
        larger, element = inflation
        smaller = larger.clone()
        smaller[element] = False
        inflated.append(larger)
        dropped.append(smaller)
    values = metric_of(setup, [*inflated, *dropped])
    return squared_effects(values[: len(inflated)] - values[len(inflated) :])


def _inflate(
    walks: RandomWalks, kept: Tensor, generator: torch.Generator
) -> tuple[Tensor, int] | None:
    """The circuit with a random path, and one of the elements that this added."""
    for _ in range(_TRIES):
        path = walks.path(generator)
        added = [element for element in path if not kept[element]]
        if added:
            larger = kept.clone()
            larger[torch.tensor(path)] = True
            return larger, added[int(torch.randint(len(added), (), generator=generator))]
    return None
