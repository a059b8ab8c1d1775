"""From scores per element to circuits of a wanted size."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.circuits.space import Space
from harness.errors import HarnessError
from harness.spec.types import Ablation, Evaluation, Selection


def strength(scores: Tensor, order: str) -> Tensor:
    """What elements are ranked by: the score (`signed`) or its magnitude (`absolute`)."""
    return scores.abs() if order == "absolute" else scores


def top_n(scores: Tensor, n: int, order: str = "absolute") -> Tensor:
    """The n strongest elements as bool [E], from scores [E]; ties go to the first element."""
    ranked = strength(scores, order).argsort(descending=True, stable=True)
    kept = torch.zeros(len(ranked), dtype=torch.bool)
    kept[ranked[:n].cpu()] = True
    return kept


def select(
    scores: Tensor, space: Space, n: int, selection: Selection, ablation: Ablation
) -> Tensor:
    """A circuit of at most n elements by a selection rule, dead ends removed: bool [E]."""
    scores = scores.cpu()
    if selection.rule == "greedy":
        kept = space.grow(strength(scores, selection.order), n)
    else:
        kept = top_n(scores, n, selection.order)
    return space.prune(kept, ablation)


def requested_counts(choices: Evaluation, total: int) -> list[int]:
    """Numbers of elements of the circuits that the choices ask for; none where they are targets.

    Raises `HarnessError` for a count that the space does not have.
    """
    if choices.targets is not None:
        return []
    if choices.counts is None:
        return sizes_to_counts(choices.sizes, total)
    if choices.counts[-1] > total:
        raise HarnessError(
            f"evaluation.counts: a circuit of {choices.counts[-1]} elements is asked for, and "
            f"there are {total}"
        )
    return list(choices.counts)


def sizes_to_counts(sizes: tuple[float, ...], total: int) -> list[int]:
    """Elements requested at each share of the space: ⌊share·total⌋, as MIB rounds."""
    return [int(size * total) for size in sizes]


def number_of_elements(size: float | int, total: int) -> int:
    """A share (float) or number (int) of all elements as a number of them.

    Raises `HarnessError` for anything else.
    """
    if isinstance(size, float) and 0 < size <= 1:
        return sizes_to_counts((size,), total)[0]
    if not isinstance(size, float | bool) and 0 <= size <= total:
        return int(size)
    raise HarnessError(
        f"size {size!r} is neither a share (0 to 1.0) nor a number from 0 to {total}"
    )
