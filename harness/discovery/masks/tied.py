"""Elements that share a mask because one does nothing without the other."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from harness.circuits.space import Space
from harness.errors import HarnessError

_QUERY_OR_KEY = re.compile(r"a(\d+)\.[qk]\.(\d+)")


def query_key_groups(space: Space) -> Tensor:
    """The group of each element [E]: channel c of a layer's queries and of its keys are one.

    Raises `HarnessError` where no element is such a channel.
    """
    numbers: dict[object, int] = {}
    groups = []
    for element in range(len(space)):
        name = space.name(element)
        match = _QUERY_OR_KEY.fullmatch(name)
        groups.append(numbers.setdefault(match.groups() if match else name, len(numbers)))
    if len(numbers) == len(space):
        raise HarnessError(
            "tie query_key needs circuits of channels, with queries and keys (`a0.q.3`, `a0.k.3`) "
            f"among them; these are made of {space.unit}"
        )
    return torch.tensor(groups)
