"""Named elements of a file, checked, as tensors of a space."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from harness.circuits.space import Space
from harness.errors import HarnessError


def filled(space: Space, rows: Iterable[tuple[str, float | None, bool]]) -> tuple[Tensor, Tensor]:
    """`kept` bool [E] and `scores` float32 [E] from (name, score, kept).

    Raises `HarnessError` for an unknown element, a score that is not finite, or a `kept` that is
    not a boolean.
    """
    kept, scores = np.zeros(len(space), np.bool_), np.zeros(len(space), np.float32)
    for name, score, inside in rows:
        element = space.index(name)
        if score is not None and not math.isfinite(score):
            raise HarnessError(f"the score of {name} is {score}, not a number")
        if not isinstance(inside, bool):
            raise HarnessError(f"{name} must be in the graph or not, not {inside!r}")
        kept[element], scores[element] = inside, score or 0.0
    return torch.from_numpy(kept), torch.from_numpy(scores)


def check_shape(name: str, values: Tensor, wanted: tuple[int, ...]) -> None:
    """Refuse a tensor of another shape (`HarnessError`)."""
    if tuple(values.shape) != wanted:
        raise HarnessError(f"{name} has shape {tuple(values.shape)}, the space needs {wanted}")
