"""The elements of gated sites as a space: `{site}.{channel}`, site after site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from harness.circuits.gates.dead_ends import without_dead_ends
from harness.circuits.gates.wiring import Bools, Wiring
from harness.circuits.space import NamedElements
from harness.errors import HarnessError
from harness.spec.build import build
from harness.spec.types import Ablation

Rest = Literal["none", "kept", "dropped", "element"]

MOST_ELEMENTS = 1 << 26
"""Of a file's space; a model of two billion weights has 0.5 million channels."""


@dataclass(frozen=True)
class Gates:
    """The elements of one site: `size` of them, called `{name}.0`, `{name}.1`, ….

    `heads`: how many heads they divide into, in order, or groups of heads (`shared`). `rest`: what
    becomes of the part of the site's value that no element carries: there is none, it is always
    there, never there, or an element `{name}.error`; `width`: its numbers.
    """

    name: str
    size: int
    heads: int | None = None
    shared: bool = False
    rest: Rest = "none"
    width: int = 0

    @property
    def elements(self) -> int:
        """How many there are, that of the rest included."""
        return self.size + (self.rest == "element")

    @property
    def constants(self) -> int:
        """Numbers of a constant counterfactual: one for each element, the rest's `width`."""
        return self.size + self.width

    def names(self) -> Iterator[str]:
        """The names, in order."""
        yield from (f"{self.name}.{channel}" for channel in range(self.size))
        if self.rest == "element":
            yield f"{self.name}.error"

    def owners(self) -> Iterator[str]:
        """The part of the model that each belongs to: a head, or the attention or MLP of a layer.

        Groups of heads that share keys and values are parts of their own.
        """
        part = self.name.partition(".")[0]
        if self.heads is None:
            yield from [part] * self.elements
            return
        for head in range(self.heads):
            yield from [f"{part}.{'g' if self.shared else 'h'}{head}"] * (self.size // self.heads)


@dataclass(frozen=True, repr=False)
class GatedSpace(NamedElements):
    """The elements of all gated sites. Each is a node; components are heads, attentions, MLPs.

    `wiring`: the weights between them, where these are counted.
    """

    gates: tuple[Gates, ...] = ()
    wiring: Wiring | None = None

    @classmethod
    def of(
        cls, granularity: str, unit: str, gates: Sequence[Gates], wiring: Wiring | None = None
    ) -> GatedSpace:
        """The space of gates in order of computation."""
        names = tuple(name for one in gates for name in one.names())
        return cls(granularity, unit, names, tuple(gates), wiring)

    def __repr__(self) -> str:
        """Short: messages show it."""
        sites = ", ".join(f"{one.name} {one.elements}" for one in self.gates[:3])
        more = ", …" if len(self.gates) > 3 else ""
        return f"{len(self):,} {self.unit} at {len(self.gates)} sites ({sites}{more})"

    # ------------------------------------------------------------ site by site
    def split(self, values: Tensor) -> dict[str, Tensor]:
        """Values [..., E] by the gates' names."""
        parts = values.split([one.elements for one in self.gates], -1)
        return {one.name: part for one, part in zip(self.gates, parts, strict=True)}

    def by_site(self, kept: Tensor) -> dict[str, Bools]:
        """A kept set [E] by the gates' names."""
        return {name: part.cpu().numpy() for name, part in self.split(kept.bool()).items()}

    @property
    def constants(self) -> int:
        """Numbers of a constant counterfactual: E where there is no rest."""
        return sum(one.constants for one in self.gates)

    # ------------------------------------------------------------ parts of the model
    @cached_property
    def _parts(self) -> tuple[tuple[str, ...], Tensor]:
        """Names of the components in order of first appearance, and that of each element [E]."""
        owners = [owner for one in self.gates for owner in one.owners()]
        places = {name: place for place, name in enumerate(dict.fromkeys(owners))}
        return tuple(places), torch.tensor([places[owner] for owner in owners])

    @property
    def components(self) -> Sequence[str]:
        """`a0` (what attention reads and writes), `a0.h1` (its queries, keys, values), `m0`, …."""
        return self._parts[0]

    def elements_of(self, component: int) -> Tensor:
        """All of the part's elements."""
        return self._parts[1] == component

    def touched(self, kept: Tensor) -> Tensor:
        """Parts that a kept element belongs to."""
        touched = torch.zeros(len(self.components), dtype=torch.bool)
        touched[self._parts[1][kept.cpu()]] = True
        return touched

    # ------------------------------------------------------------ circuits
    def prune(self, kept: Tensor, ablation: Ablation) -> Tensor:
        """Without channels that have no way to the logits, see `dead_ends`."""
        if self.wiring is None:
            return kept
        heads = {one.name: one.heads for one in self.gates if one.heads is not None}
        by_site = without_dead_ends(self.by_site(kept), heads, self.wiring, ablation)
        return torch.from_numpy(np.concatenate([by_site[one.name] for one in self.gates]))

    def counts(self, kept: Tensor) -> Mapping[str, int]:
        """Kept elements without rests, then kept rests, then weights between kept channels."""
        by_site = self.by_site(kept)
        total = int(kept.sum())
        errors = sum(int(by_site[g.name][-1]) for g in self.gates if g.rest == "element")
        counts = {self.unit: total - errors}
        if any(one.rest == "element" for one in self.gates):
            counts["errors"] = errors
        if self.wiring is not None:
            counts["weights"] = self.wiring.count(by_site)
        return counts

    # ------------------------------------------------------------ files
    def header(self) -> dict[str, Any]:
        """The gates and the wiring."""
        header: dict[str, Any] = {
            "granularity": self.granularity,
            "unit": self.unit,
            "gates": [asdict(one) for one in self.gates],
        }
        return header if self.wiring is None else header | {"wiring": self.wiring.header()}

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> GatedSpace:
        """Inverse of `header`. Raises `HarnessError`, or what a broken header leads to."""
        gates = tuple(build(Gates, one) for one in header["gates"])
        if any(min(g.size, 1 if g.heads is None else g.heads, g.width + 1) < 1 for g in gates):
            raise HarnessError("a site of no elements, heads or width")
        if any(g.heads and g.size % g.heads for g in gates):
            raise HarnessError("the elements of a site do not divide into its heads")
        if len({one.name for one in gates}) < len(gates):
            raise HarnessError("a site is listed twice")
        if sum(one.constants + 1 for one in gates) > MOST_ELEMENTS:
            raise HarnessError(f"more than {MOST_ELEMENTS:,} elements; is the file damaged?")
        sizes = {one.name: one.size for one in gates}
        wired = header.get("wiring")
        wiring = None if wired is None else Wiring.from_header(wired, sizes)
        return cls.of(header["granularity"], header["unit"], gates, wiring)
