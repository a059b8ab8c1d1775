"""The edges of a transformer as a space: flat [E] outside, matrices [W, R] inside.

Elements are the allowed edges by row, then column; by position before these where each has its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.circuits.edges.flow import touched_nodes
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.paths import Walks
from harness.circuits.edges.select import grow, prune
from harness.circuits.space import RandomWalks
from harness.circuits.untrusted import read_graph
from harness.spec.types import Ablation


@dataclass(frozen=True)
class EdgeSpace:
    """The E edges that a graph allows. Each belongs to its writer, at its position."""

    graph: Graph
    granularity: ClassVar[str] = "edge"
    unit: ClassVar[str] = "edges"

    def __len__(self) -> int:
        return self.graph.n_edges

    # ------------------------------------------------------------ flat and matrix
    @cached_property
    def _cells(self) -> Tensor:
        """Where each edge stands in the flattened matrix: long [E]."""
        return self.graph.allowed.flatten().nonzero().flatten()

    @cached_property
    def _by_device(self) -> dict[torch.device, Tensor]:
        return {}

    def _cells_on(self, device: torch.device) -> Tensor:
        """Copied to a device once: masks go through here at every step."""
        if device not in self._by_device:
            self._by_device[device] = self._cells.to(device)
        return self._by_device[device]

    def matrix(self, flat: Tensor) -> Tensor:
        """Values [..., E] as matrices [..., W, R] (or [..., T, W, R]); 0 at impossible edges."""
        allowed = self.graph.allowed
        empty = flat.new_zeros(*flat.shape[:-1], allowed.numel())
        spread = empty.index_copy(-1, self._cells_on(flat.device), flat)
        matrices: Tensor = spread.unflatten(-1, allowed.shape)
        return matrices

    def flat(self, matrix: Tensor) -> Tensor:
        """Matrices [..., W, R] (or [..., T, W, R]) as values [..., E] of the allowed edges."""
        return matrix.flatten(-self.graph.allowed.ndim)[..., self._cells_on(matrix.device)]

    def number(self, edges: Sequence[tuple[int, ...]]) -> Tensor:
        """Elements of edges given as indices (row, column) or (position, row, column): long [n]."""
        return self._numbers[tuple(torch.tensor(edges).T)]

    @cached_property
    def _numbers(self) -> Tensor:
        """The element of each allowed edge, like `allowed`; meaningless elsewhere."""
        allowed = self.graph.allowed
        return (allowed.flatten().cumsum(0) - 1).view(allowed.shape)

    @cached_property
    def _places(self) -> Tensor:
        """Index of each edge in the matrix: long [E, 2 or 3]."""
        return self.graph.allowed.nonzero()

    # ------------------------------------------------------------ names
    def name(self, element: int) -> str:
        """`a3.h1->m5`, `m0->a4.h2<q>`, or with its position `…@3`."""
        return self.graph.edge_name(*self._places[element].tolist())

    def index(self, name: str) -> int:
        """The edge of a name. Raises `HarnessError` if there is none."""
        return int(self._numbers[self.graph.edge_index(name)])

    def listing(self) -> Sequence[int]:
        """In the order of the field's files."""
        return self._listing

    @cached_property
    def _listing(self) -> list[int]:
        order: list[int] = self.number(list(self.graph.edges())).tolist()
        return order

    # ------------------------------------------------------------ parts of the model
    @cached_property
    def nodes(self) -> Sequence[str]:
        """Writers, the input's too; at each position where positions have edges of their own."""
        if self.graph.positions is None:
            return self.graph.writers
        places = range(self.graph.n_places)
        return tuple(f"{writer}@{place}" for place in places for writer in self.graph.writers)

    @cached_property
    def owners(self) -> Tensor:
        """Each edge's writer, at its position: long [E]."""
        return self.graph.allowed.flatten(0, -2).nonzero()[:, 0]

    @cached_property
    def components(self) -> Sequence[str]:
        """Heads and MLPs, in the order of the writers."""
        return self.graph.writers[self.graph.n_inputs :]

    def elements_of(self, component: int) -> Tensor:
        """All edges out of a head or MLP, at all positions."""
        return self._places[:, -2] == self.graph.n_inputs + component

    def touched(self, kept: Tensor) -> Tensor:
        """Heads and MLPs that a kept edge goes out of or into, at any position."""
        return touched_nodes(self.matrix(kept.cpu()), self.graph)[self.graph.n_inputs : -1]

    # ------------------------------------------------------------ circuits
    def prune(self, kept: Tensor, ablation: Ablation) -> Tensor:
        """Without dead ends, see `edges.select.prune`."""
        return self.flat(prune(self.matrix(kept), self.graph, ablation))

    def grow(self, ranks: Tensor, n: int) -> Tensor:
        """Greedily from the logits, see `edges.select.grow`."""
        return self.flat(grow(self.matrix(ranks), self.graph, n))

    def counts(self, kept: Tensor) -> Mapping[str, int]:
        """Kept edges."""
        return {"edges": int(kept.sum())}

    def walks(self) -> RandomWalks:
        """Random paths from an input to the logits."""
        return _EdgeWalks(self, Walks(self.graph))

    def uniform(self, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
        """One number per writer and reader is drawn, whether they have an edge or not."""
        return self.flat(torch.rand(self.graph.allowed.shape, generator=generator, dtype=dtype))

    # ------------------------------------------------------------ files
    def fits_constants(self, count: int, d_model: int) -> bool:
        """Whether heads of some width would give `count` numbers that all writers write."""
        graph = self.graph
        heads = count - (graph.n_inputs + graph.n_layers * graph.mlps) * d_model
        return heads > 0 and heads % (graph.n_layers * graph.n_heads) == 0

    def header(self) -> dict[str, Any]:
        """The graph as plain data; of positions and MLPs only where these are unusual."""
        fields = asdict(self.graph)
        if self.graph.positions is None:
            del fields["positions"]
        if self.graph.mlps:
            del fields["mlps"]
        return fields

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> EdgeSpace:
        """Inverse of `header`. Raises as `untrusted.read_graph` does."""
        return cls(read_graph(header))


@dataclass(frozen=True)
class _EdgeWalks:
    """Walks along edges, in elements."""

    space: EdgeSpace
    walks: Walks

    @property
    def live(self) -> Tensor:
        return self.space.flat(self.walks.live.view(self.space.graph.allowed.shape))

    def path(self, generator: torch.Generator) -> Sequence[int]:
        path: list[int] = self.space.number(self.walks.path(generator)).tolist()
        return path
