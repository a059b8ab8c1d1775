"""Named elements of a file, checked, as tensors of a space."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from harness.circuits.space import Space
from harness.errors import HarnessError
from harness.spec.printable import quoted

LARGEST = float(np.finfo(np.float32).max)
"""Scores are 32-bit numbers."""


def filled(space: Space, rows: Iterable[tuple[str, float | None, bool]]) -> tuple[Tensor, Tensor]:
    """`kept` bool [E] and `scores` float32 [E] from (name, score, kept).

    Raises `HarnessError` for an unknown element, one that is listed twice, a score that is not
    finite, or a `kept` that is not a boolean.
    """
    kept, scores = np.zeros(len(space), np.bool_), np.zeros(len(space), np.float32)
    listed = np.zeros(len(space), np.bool_)
    for name, score, inside in rows:
        if not isinstance(name, str):
            raise HarnessError(f"an element is called {quoted(name)}, which is no text")
        element = space.index(name)
        if listed[element]:
            raise HarnessError(f"{name} is listed twice")
        if score is not None and not _is_score(score):
            raise HarnessError(f"the score of {name} is {quoted(score)}, not a number")
        if not isinstance(inside, bool):
            raise HarnessError(f"{name} must be in the graph or not, not {quoted(inside)}")
        kept[element], scores[element], listed[element] = inside, score or 0.0, True
    return torch.from_numpy(kept), torch.from_numpy(scores)


def _is_score(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= LARGEST  # type: ignore[arg-type]


def check_scores(name: str, values: Tensor) -> Tensor:
    """The scores [E] of a file. Raises `HarnessError` if they are not finite floats."""
    if not values.is_floating_point() or not torch.isfinite(values).all():
        raise HarnessError(f"{name} hold values that are not numbers")
    return values


def check_shape(name: str, values: Tensor, wanted: tuple[int, ...]) -> None:
    """Refuse a tensor of another shape (`HarnessError`)."""
    if tuple(values.shape) != wanted:
        raise HarnessError(f"{name} has shape {tuple(values.shape)}, the space needs {wanted}")
