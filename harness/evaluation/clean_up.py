"""A circuit without the elements that its target does not need: dropped one by one, greedily.

Gao et al. 2025 removed by hand what learned masks leave behind. What remains is small for its
target, and says less of the model: what was dropped may be what makes the rest necessary.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from harness.progress import through

PASSES = 2
"""An element that was needed may be superfluous once others have gone."""


def cleaned(kept: Tensor, scores: Tensor, holds: Callable[[Tensor], bool]) -> Tensor:
    """The circuit [E] without each element whose loss `holds` allows, the weakest score first.

    `holds`: whether a circuit still reaches its target. Cost: a circuit for each element, at most
    `PASSES` times.
    """
    order = scores.argsort(stable=True).tolist()
    for _ in range(PASSES):
        before = int(kept.sum())
        inside = [element for element in order if kept[element]]
        for element in through(inside, "clean-up", "element"):
            smaller = kept.clone()
            smaller[element] = False
            if holds(smaller):
                kept = smaller
        if int(kept.sum()) == before:
            break
    return kept
