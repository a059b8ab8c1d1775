"""The elements that circuits of one granularity are made of.

A circuit is a subset of a `Space` of E named elements. Masks, scores and kept sets are flat
tensors [E], or [S, E] for several at once, in the order of the elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.spec.granularity import granularity, named
from harness.spec.types import Ablation


class RandomWalks(Protocol):
    """Draws random connected pieces of a space: what connected random circuits are made of."""

    @property
    def live(self) -> Tensor:
        """Elements that lie on any path from the inputs to the logits: bool [E]."""
        ...

    def path(self, generator: torch.Generator) -> Sequence[int]:
        """Elements of one random path; a single element where elements need no path."""
        ...


class Space(Protocol):
    """E named elements of one granularity. Spaces of one model and one set of choices are equal."""

    @property
    def granularity(self) -> str:
        """Name in `harness.spec.granularity`."""
        ...

    @property
    def unit(self) -> str:
        """What elements are counted in, plural."""
        ...

    def __len__(self) -> int:
        """E."""
        ...

    def name(self, element: int) -> str:
        """The name of an element, 0 … E-1."""
        ...

    def index(self, name: str) -> int:
        """The element of a name. Raises `HarnessError` if there is none."""
        ...

    def listing(self) -> Sequence[int]:
        """All elements in the order in which files list them."""
        ...

    # ------------------------------------------------------------ parts of the model
    @property
    def nodes(self) -> Sequence[str]:
        """Names of the nodes that elements belong to; `…@3` where each position has its own."""
        ...

    @property
    def owners(self) -> Tensor:
        """The node that each element belongs to: long [E]."""
        ...

    @property
    def components(self) -> Sequence[str]:
        """Names of the C parts of the model that can be knocked out: its nodes at all positions.

        Without what every circuit has, such as the inputs.
        """
        ...

    def elements_of(self, component: int) -> Tensor:
        """Elements that go when a component is knocked out: bool [E]."""
        ...

    def touched(self, kept: Tensor) -> Tensor:
        """Components that a kept set [E] uses: bool [C]."""
        ...

    # ------------------------------------------------------------ circuits
    def prune(self, kept: Tensor, ablation: Ablation) -> Tensor:
        """The kept set [E] without elements that surely change no logit under an ablation."""
        ...

    def grow(self, ranks: Tensor, n: int) -> Tensor:
        """At most n elements, grown backwards from the logits by rank [E]: bool [E].

        Raises `HarnessError` where elements form no paths.
        """
        ...

    def counts(self, kept: Tensor) -> Mapping[str, int]:
        """The size of a kept set [E] in every unit that tells something: `{"edges": 40}`."""
        ...

    def walks(self) -> RandomWalks:
        """Random connected pieces."""
        ...

    def uniform(self, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """One number from [0, 1) for each element: [E]."""
        ...

    def header(self) -> dict[str, Any]:
        """Plain JSON data that `space_of` makes an equal space from."""
        ...


def require_same_space(a: Space, b: Space) -> None:
    """Refuse to compare circuits of different spaces (`HarnessError`)."""
    if a != b:
        raise HarnessError(
            f"circuits of different spaces cannot be compared: {a} and {b}; both must have been "
            "found in models of one shape with the same `granularity`, `inputs` and `positions`"
        )


def space_of(name: str, header: Mapping[str, Any]) -> Space:
    """The space of a granularity from the header in a file.

    Raises `NotFound` for an unknown granularity; what its package raises for a broken header.
    """
    make = named(granularity(name).space)
    space: Space = make(header)
    return space


@dataclass(frozen=True)
class NamedElements:
    """A space whose elements are simply named: each is a node of its own, and nothing is a path.

    A granularity can use it as it is, or inherit and say more.
    """

    granularity: str
    unit: str
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: element for element, name in enumerate(self.names)}

    def name(self, element: int) -> str:
        """The name of an element."""
        return self.names[element]

    def index(self, name: str) -> int:
        """The element of a name."""
        if name not in self._index:
            raise HarnessError(f"no element {name!r} among {len(self)} {self.unit}")
        return self._index[name]

    def listing(self) -> Sequence[int]:
        """As they are numbered."""
        return range(len(self))

    @property
    def nodes(self) -> Sequence[str]:
        """The elements themselves."""
        return self.names

    @cached_property
    def owners(self) -> Tensor:
        """Each its own."""
        return torch.arange(len(self))

    @property
    def components(self) -> Sequence[str]:
        """All nodes."""
        return self.nodes

    def elements_of(self, component: int) -> Tensor:
        """Those that belong to the node."""
        return self.owners == component

    def touched(self, kept: Tensor) -> Tensor:
        """Nodes that a kept element belongs to."""
        touched = torch.zeros(len(self.components), dtype=torch.bool)
        touched[self.owners[kept.cpu()]] = True
        return touched

    def prune(self, kept: Tensor, ablation: Ablation) -> Tensor:
        """Unchanged: any element may matter."""
        return kept

    def grow(self, ranks: Tensor, n: int) -> Tensor:
        """Refused: there are no paths to grow along."""
        raise HarnessError(
            f"selection.rule greedy grows circuits along edges; {self.unit} have none: use top_n"
        )

    def counts(self, kept: Tensor) -> Mapping[str, int]:
        """Kept elements."""
        return {self.unit: int(kept.sum())}

    def walks(self) -> RandomWalks:
        """Single random elements."""
        return _SingleElements(len(self))

    def uniform(self, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """Independent draws."""
        return torch.rand(len(self), generator=generator, dtype=dtype)

    def header(self) -> dict[str, Any]:
        """The names."""
        return {"unit": self.unit, "names": list(self.names)}


@dataclass(frozen=True)
class _SingleElements:
    """Paths of one element each."""

    size: int

    @property
    def live(self) -> Tensor:
        return torch.ones(self.size, dtype=torch.bool)

    def path(self, generator: torch.Generator) -> Sequence[int]:
        return [int(torch.randint(self.size, (), generator=generator))]
