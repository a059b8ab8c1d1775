"""From what a method found to a circuit of a wanted size.

Circuits cut from one ranking nest: that of fewer edges is a part of that of more, also when their
dead ends are removed, since a path in the one is a path in the other. Circuits from several
rankings (a training for each size), or that a method settled on, need not nest: each is what was
found for about its size.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from harness.circuits.select import select
from harness.circuits.space import Space
from harness.discovery.problem import Discovery
from harness.errors import HarnessError
from harness.spec.types import Ablation, Selection


def circuit_of(
    found: Discovery, space: Space, n: int, selection: Selection, ablation: Ablation
) -> Tensor:
    """A circuit of at most n elements, the ablation's dead ends removed (`Space.prune`): bool [E].

    Where the method settled on circuits, the largest of them with at most n elements; the empty one
    if none is that small. Else the scores' strongest elements, from the ranking made for a number
    of elements nearest to n (in ratio). All elements are the whole model for every method.
    """
    if n >= len(space):
        return torch.ones(len(space), dtype=torch.bool)
    if found.circuits:
        alive = [space.prune(kept, ablation) for kept in found.circuits]
        fitting = [kept for kept in alive if int(kept.sum()) <= n]
        empty = torch.zeros(len(space), dtype=torch.bool)
        return max(fitting, key=lambda kept: int(kept.sum()), default=empty)
    return select(ranking_for(found, n), space, n, selection, ablation)


def ranking_for(found: Discovery, n: int) -> Tensor:
    """The scores that circuits of n elements are cut from."""
    return found.rankings[_nearest(found, n)] if found.rankings else found.scores


SCORES = "scores"
"""What `cut_from` says where circuits of all sizes are cut from one ranking."""


def cut_from(found: Discovery, n: int, unit: str) -> str:
    """In words, what circuits of n elements come from: `scores` if circuits of all sizes do."""
    if found.circuits:
        return "circuits that the method settled on"
    if found.rankings:
        return f"scores made for about {_nearest(found, n)} {unit}"
    return SCORES


def _nearest(found: Discovery, n: int) -> int:
    """Which of the rankings is made for a number of elements nearest to n, in ratio."""
    return min(found.rankings, key=lambda made_for: abs(math.log(made_for / max(n, 1))))


def checked(found: Discovery, space: Space, method: str) -> Discovery:
    """The same on the CPU in double precision.

    Raises `HarnessError` for tensors of a wrong shape or scores that are not finite.
    """

    def scores(given: Tensor) -> Tensor:
        _check_shape(given, space, method, "scores")
        on_cpu = given.detach().cpu().double()
        if not torch.isfinite(on_cpu).all():
            raise HarnessError(
                f"method {method!r} gave scores that are not finite; nothing can be ranked by them"
            )
        return on_cpu

    for kept in found.circuits:
        _check_shape(kept, space, method, "a circuit")
    return replace(
        found,
        scores=scores(found.scores),
        rankings={size: scores(given) for size, given in found.rankings.items()},
        circuits=tuple(kept.cpu().bool() for kept in found.circuits),
    )


def _check_shape(given: Tensor, space: Space, method: str, what: str) -> None:
    if given.shape != (len(space),):
        raise HarnessError(
            f"method {method!r} gave {what} of shape {tuple(given.shape)}; the model has "
            f"{len(space)} {space.unit}, so it has to be ({len(space)},)"
        )
