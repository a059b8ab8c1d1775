"""From what a method returned to a circuit of a wanted size.

Circuits cut from one ranking nest: that of fewer edges is a part of that of more, also when their
dead ends are removed, since a path in the one is a path in the other. Circuits from several
rankings (a training for each size), or that a method settled on, need not nest: each is what was
found for about its size.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.circuits.select import select
from harness.circuits.space import Space
from harness.discovery.problem import ActiveSet, Discovery
from harness.errors import HarnessError
from harness.spec.types import Ablation, Selection


def circuit_of(
    discovery: Discovery, space: Space, n: int, selection: Selection, ablation: Ablation
) -> Tensor:
    """A circuit of at most n elements, the ablation's dead ends removed (`Space.prune`): bool [E].

    Where the method learned active sets, the strongest of the smallest one that has n elements, or
    the largest one whole. Where it settled on circuits, the largest of them with at most n
    elements; the empty one if none is that small. Else the scores' strongest elements, from the
    ranking made for a number of elements nearest to n (in ratio). All elements are the whole model
    for every method.
    """
    if n >= len(space):
        return torch.ones(len(space), dtype=torch.bool)
    if discovery.active:
        chosen = _active_set(discovery, n)
        return select(chosen.scores, space, min(n, chosen.size), selection, ablation)
    if discovery.circuits:
        alive = [space.prune(kept, ablation) for kept in discovery.circuits]
        fitting = [kept for kept in alive if int(kept.sum()) <= n]
        empty = torch.zeros(len(space), dtype=torch.bool)
        return max(fitting, key=lambda kept: int(kept.sum()), default=empty)
    return select(ranking_for(discovery, n), space, n, selection, ablation)


def ranking_for(discovery: Discovery, n: int) -> Tensor:
    """The scores that circuits of n elements are cut from."""
    if discovery.active:
        return _active_set(discovery, n).scores
    return discovery.rankings[_nearest(discovery, n)] if discovery.rankings else discovery.scores


SCORES = "scores"
"""What `cut_from` says where circuits of all sizes are cut from one ranking."""


def cut_from(discovery: Discovery, n: int, unit: str) -> str:
    """In words, what circuits of n elements come from: `scores` if circuits of all sizes do."""
    if discovery.active:
        return f"an active set of {_active_set(discovery, n).size} {unit}"
    if discovery.circuits:
        return "circuits that the method settled on"
    if discovery.rankings:
        return f"scores made for about {_nearest(discovery, n)} {unit}"
    return SCORES


def _active_set(discovery: Discovery, n: int) -> ActiveSet:
    """The smallest active set with n elements; the largest where none has so many."""
    large_enough = [one for one in discovery.active if one.size >= n]
    if large_enough:
        return min(large_enough, key=lambda one: one.size)
    return max(discovery.active, key=lambda one: one.size)


def _nearest(discovery: Discovery, n: int) -> int:
    """Which of the rankings is made for a number of elements nearest to n, in ratio."""
    return min(discovery.rankings, key=lambda size: abs(math.log(size / max(n, 1))))


def checked(discovery: Any, space: Space, method: str) -> Discovery:
    """The same on the CPU in double precision.

    Raises `HarnessError` for anything but a `Discovery`, tensors of a wrong shape or scores that
    are not finite.
    """
    if not isinstance(discovery, Discovery):
        raise HarnessError(
            f"method {method!r}: discover must return a Discovery, got {type(discovery).__name__}"
        )

    def finite(scores: Tensor) -> Tensor:
        _check_shape(scores, space, method, "scores")
        on_cpu = scores.detach().cpu().double()
        if not torch.isfinite(on_cpu).all():
            raise HarnessError(
                f"method {method!r} gave scores that are not finite; nothing can be ranked by them"
            )
        return on_cpu

    for kept in discovery.circuits:
        _check_shape(kept, space, method, "a circuit")
    return replace(
        discovery,
        scores=finite(discovery.scores),
        rankings={size: finite(scores) for size, scores in discovery.rankings.items()},
        circuits=tuple(kept.cpu().bool() for kept in discovery.circuits),
        active=tuple(one._replace(scores=finite(one.scores)) for one in discovery.active),
    )


def _check_shape(tensor: Tensor, space: Space, method: str, what: str) -> None:
    if not isinstance(tensor, Tensor):
        raise HarnessError(
            f"method {method!r}: {what} of a Discovery must be a tensor of {len(space)} numbers, "
            f"one for each of the {space.unit}; got {type(tensor).__name__}"
        )
    if tensor.shape != (len(space),):
        raise HarnessError(
            f"method {method!r} gave {what} of shape {tuple(tensor.shape)}; the model has "
            f"{len(space)} {space.unit}, so it has to be ({len(space)},)"
        )
