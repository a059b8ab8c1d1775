"""Elements that share a mask because one does nothing without the other."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from harness.circuits.gates.space import GatedSpace, Gates
from harness.circuits.space import Space
from harness.errors import HarnessError

_QUERY_OR_KEY = re.compile(r"a(\d+)\.([qk])\.(\d+)")
_CHANNELS = "channels"


def query_key_groups(space: Space) -> Tensor:
    """The group of each element [E]: a channel of a layer's keys and those of its queries that it
    is multiplied with are one, which is channel c of every head that shares the key.

    Raises `HarnessError` where no elements are such channels.
    """
    gates = {one.name: one for one in space.gates} if isinstance(space, GatedSpace) else {}
    numbers: dict[object, int] = {}
    groups = []
    for element in range(len(space)):
        name = space.name(element)
        match = _QUERY_OR_KEY.fullmatch(name)
        group: object = name
        if match is not None and space.unit == _CHANNELS:
            layer, kind, channel = match[1], match[2], int(match[3])
            group = layer, _key_of(gates, layer, channel) if kind == "q" else channel
        groups.append(numbers.setdefault(group, len(numbers)))
    if len(numbers) == len(space):
        raise HarnessError(
            "tie query_key needs circuits of channels, with queries and keys (`a0.q.3`, `a0.k.3`) "
            f"among them; these are made of {space.unit}"
        )
    return torch.tensor(groups)


def _key_of(gates: Mapping[str, Gates], layer: str, channel: int) -> int:
    """The channel of a layer's keys that a channel of its queries is multiplied with."""
    queries, keys = gates.get(f"a{layer}.q"), gates.get(f"a{layer}.k")
    if queries is None or keys is None or not queries.heads or not keys.heads:
        return channel
    width = queries.size // queries.heads
    head, inside = divmod(channel, width)
    return head // (queries.heads // keys.heads) * width + inside
