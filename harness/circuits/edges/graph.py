"""The edge graph of a transformer as index arithmetic; names are made only when asked for.

Writers (rows): what the embeddings write, then per layer the heads `a{l}.h{h}` and the MLP `m{l}`.
Readers (columns): per layer `a{l}.h{h}<q>` of all heads, then `<k>`, then `<v>`, then `m{l}`;
last `logits`. A head's q, k and v read separately; where heads share keys and values in groups,
a group's readers `a{l}.g{g}<k>` and `a{l}.g{g}<v>` stand for all its heads. This is the order of
the field's files (EAP-IG, MIB). Layers of attention alone have no `m{l}`.

`inputs` says which writers the embeddings are:
    token   `input`, the token embedding alone; positions are a constant that is never ablated
    summed  `input`, token and position embedding together
    split   `tok` and `pos`, one each
    none    no writer: the clean embeddings reach every reader, whatever is ablated

Edges are shared by all token positions, or each position has its own (`Graph.positions`): then an
edge is (position, writer, reader), T times as many, and `a0.h1->m1@3` is what m1 reads of a0.h1 at
position 3, counted from 0.

Counts: W = e + L(H+1) writers with e input writers, R = L(H+2G+1) + 1 readers with G key/value
groups (G = H without sharing); GPT-2 small with `token` has 157, 445 and 32,491 edges. Without
MLPs, W = e + L·H and R = L(H+2G) + 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from harness.circuits.edges.positions import Positions
from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.spec.types import Inputs

_NUMBER = "(0|[1-9][0-9]*)"  # one spelling per node
_HEAD = re.compile(rf"a{_NUMBER}\.h{_NUMBER}")
_READ = re.compile(rf"a{_NUMBER}\.([hg]){_NUMBER}<([qkv])>")
_MLP = re.compile(rf"m{_NUMBER}")
_INPUT_NAMES: dict[Inputs, tuple[str, ...]] = {
    "token": ("input",),
    "summed": ("input",),
    "split": ("tok", "pos"),
    "none": (),
}


@dataclass(frozen=True)
class Graph:
    """All edges writer → reader of a model with L layers of H heads.

    `n_groups`: key/value groups, None where every head has its own. `parallel`: attention and
    MLP of a layer read the same residual stream (no edges between). `positions`: those that have
    edges of their own, None where all share them; matrices over edges are [W, R] or [T, W, R], and
    an edge's index is (row, column) or (position, row, column). `mlps`: whether layers have one;
    rows and columns of MLPs must not be asked for where they have none.
    """

    n_layers: int
    n_heads: int
    parallel: bool = False
    n_groups: int | None = None
    inputs: Inputs = "token"
    positions: Positions | None = None
    mlps: bool = True

    @classmethod
    def of(
        cls,
        config: TransformerConfig,
        inputs: Inputs = "token",
        positions: Positions | None = None,
    ) -> Graph:
        """The graph of a model."""
        shared = config.n_groups != config.n_heads
        groups = config.n_groups if shared else None
        return cls(
            config.n_layers,
            config.n_heads,
            config.parallel,
            groups,
            inputs,
            positions,
            config.has_mlp,
        )

    @property
    def groups(self) -> int:
        """Key/value readers of a layer, each."""
        return self.n_heads if self.n_groups is None else self.n_groups

    @property
    def n_inputs(self) -> int:
        """Writers that the embeddings are."""
        return len(_INPUT_NAMES[self.inputs])

    @property
    def n_writers(self) -> int:
        """e + L(H+1); e + L·H without MLPs."""
        return self.before_attention(self.n_layers)

    @property
    def n_readers(self) -> int:
        """L(H+2G+1) + 1; L(H+2G) + 1 without MLPs."""
        return self.n_layers * self.layer_readers + 1

    @property
    def layer_readers(self) -> int:
        """H+2G+1, or H+2G without MLPs."""
        return self.n_heads + 2 * self.groups + self.mlps

    @cached_property
    def n_edges(self) -> int:
        """Number of edges that the model's computation allows."""
        return int(self.allowed.sum())

    # ------------------------------------------------------------ rows and columns
    def before_attention(self, layer: int) -> int:
        """How many writers the heads of a layer can read: rows [0, this)."""
        return self.n_inputs + layer * (self.n_heads + self.mlps)

    def before_mlp(self, layer: int) -> int:
        """How many writers the MLP of a layer can read."""
        return self.before_attention(layer) + (0 if self.parallel else self.n_heads)

    def head_rows(self, layer: int) -> slice:
        """Rows of a layer's heads."""
        start = self.before_attention(layer)
        return slice(start, start + self.n_heads)

    def mlp_row(self, layer: int) -> int:
        """Row of a layer's MLP."""
        return self.before_attention(layer) + self.n_heads

    def qkv_columns(self, layer: int) -> slice[int, int, None]:
        """Columns of a layer's q readers, then k, then v."""
        start = layer * self.layer_readers
        return slice(start, start + self.n_heads + 2 * self.groups)

    def mlp_column(self, layer: int) -> int:
        """Column of a layer's MLP."""
        return self.qkv_columns(layer).stop

    @property
    def logits_column(self) -> int:
        """Column of the final reader."""
        return self.n_readers - 1

    @cached_property
    def key_value_columns(self) -> Tensor:
        """Which readers are keys or values, which other positions look at: bool [R]."""
        columns = torch.zeros(self.n_readers, dtype=torch.bool)
        for layer in range(self.n_layers):
            columns[self.qkv_columns(layer)] = True
            columns[self.qkv_columns(layer).start + torch.arange(self.n_heads)] = False
        return columns

    # ------------------------------------------------------------ places: positions, or all as one
    @property
    def n_places(self) -> int:
        """Positions with edges of their own, T; 1 where they share them."""
        return 1 if self.positions is None else self.positions.count

    @cached_property
    def looked_at(self) -> Tensor:
        """Whether keys and values of a place (row) are looked at from another: bool [P, P]."""
        one = torch.ones(1, 1, dtype=torch.bool)
        return one if self.positions is None else self.positions.looked_at()

    @cached_property
    def answers(self) -> Tensor:
        """Places where answers are read: bool [P]."""
        one = torch.ones(1, dtype=torch.bool)
        return one if self.positions is None else self.positions.answers()

    def by_place(self, values: Tensor) -> Tensor:
        """A matrix over edges as [P, W, R], whether positions share edges or not."""
        return values.reshape(self.n_places, self.n_writers, self.n_readers)

    @cached_property
    def allowed(self) -> Tensor:
        """Which edges exist: bool [W, R], or [T, W, R] where each position has its own."""
        if self.positions is None:
            return self.allowed_at_one
        return self.allowed_at_one.repeat(self.positions.count, 1, 1)

    @cached_property
    def allowed_at_one(self) -> Tensor:
        """Which writers each reader can read: bool [W, R]."""
        allowed = torch.zeros(self.n_writers, self.n_readers, dtype=torch.bool)
        for layer in range(self.n_layers):
            allowed[: self.before_attention(layer), self.qkv_columns(layer)] = True
            if self.mlps:
                allowed[: self.before_mlp(layer), self.mlp_column(layer)] = True
        allowed[:, self.logits_column] = True
        return allowed

    @cached_property
    def owners(self) -> Tensor:
        """Which nodes each reader feeds: bool [R, W+1], the last node being `logits`.

        One node each, but for the keys and values of a group, which feed all its heads.
        """
        owners = torch.zeros(self.n_readers, self.n_writers + 1, dtype=torch.bool)
        each = torch.eye(self.n_heads, dtype=torch.bool)
        grouped = each.view(self.groups, -1, self.n_heads).any(1)
        for layer in range(self.n_layers):
            owners[self.qkv_columns(layer), self.head_rows(layer)] = torch.cat(
                [each, grouped, grouped]
            )
            if self.mlps:
                owners[self.mlp_column(layer), self.mlp_row(layer)] = True
        owners[self.logits_column, self.n_writers] = True
        return owners

    # ------------------------------------------------------------ names
    @cached_property
    def writers(self) -> tuple[str, ...]:
        """Names of the rows."""
        names = list(_INPUT_NAMES[self.inputs])
        for layer in range(self.n_layers):
            names += [f"a{layer}.h{head}" for head in range(self.n_heads)]
            names += [f"m{layer}"] * self.mlps
        return tuple(names)

    @cached_property
    def readers(self) -> tuple[str, ...]:
        """Names of the columns."""
        names = []
        for layer in range(self.n_layers):
            names += [f"a{layer}.h{head}<q>" for head in range(self.n_heads)]
            letter = "h" if self.n_groups is None else "g"
            names += [f"a{layer}.{letter}{g}<{part}>" for part in "kv" for g in range(self.groups)]
            names += [f"m{layer}"] * self.mlps
        return (*names, "logits")

    def edge_name(self, *edge: int) -> str:
        """The name of an edge's index: `a3.h1->m5`, `m0->a4.h2<q>`, or with its position `…@3`."""
        *place, row, column = edge
        name = f"{self.writers[row]}->{self.readers[column]}"
        return f"{name}@{place[0]}" if place else name

    def edge_index(self, name: str) -> tuple[int, ...]:
        """The index of an edge name; raises `HarnessError` if there is no such edge."""
        place, ends = self._place(name)
        writer, arrow, reader = ends.partition("->")
        row, column = self._row(writer), self._column(reader)
        if not arrow or place is None or row is None or column is None:
            raise self._no_edge(name)
        if not self.allowed_at_one[row, column]:
            raise self._no_edge(name)
        return (*place, row, column)

    def _no_edge(self, name: str) -> HarnessError:
        groups = f" in {self.n_groups} key/value groups" if self.n_groups else ""
        places = f" at positions @0 to @{self.n_places - 1}" if self.positions else ""
        alone = "" if self.mlps else " and no MLP"
        return HarnessError(
            f"no edge {name!r} in a graph of {self.n_layers} layers with {self.n_heads} heads"
            f"{groups}{alone}{places}"
        )

    def _place(self, name: str) -> tuple[tuple[int, ...] | None, str]:
        """The position that a name must end with where there are any, and the name before it."""
        if self.positions is None:
            return (), name
        ends, _, place = name.rpartition("@")
        exists = re.fullmatch(_NUMBER, place) and int(place) < self.positions.count
        return (int(place),) if exists else None, ends

    def _row(self, name: str) -> int | None:
        if name in _INPUT_NAMES[self.inputs]:
            return _INPUT_NAMES[self.inputs].index(name)
        if head := _HEAD.fullmatch(name):
            layer, index = int(head[1]), int(head[2])
            inside = layer < self.n_layers and index < self.n_heads
            return self.before_attention(layer) + index if inside else None
        mlp = self._layer_of_mlp(name)
        return None if mlp is None else self.mlp_row(mlp)

    def _column(self, name: str) -> int | None:
        if name == "logits":
            return self.logits_column
        if read := _READ.fullmatch(name):
            layer, letter, index, part = int(read[1]), read[2], int(read[3]), read[4]
            own = part == "q" or self.n_groups is None
            count = self.n_heads if part == "q" else self.groups
            if layer >= self.n_layers or index >= count or letter != ("h" if own else "g"):
                return None
            return self.qkv_columns(layer).start + self._part_start(part) + index
        mlp = self._layer_of_mlp(name)
        return None if mlp is None else self.mlp_column(mlp)

    def _layer_of_mlp(self, name: str) -> int | None:
        mlp = _MLP.fullmatch(name) if self.mlps else None
        return int(mlp[1]) if mlp and int(mlp[1]) < self.n_layers else None

    def _part_start(self, part: str) -> int:
        """Place of a layer's first q, k or v reader among its columns."""
        return {"q": 0, "k": self.n_heads, "v": self.n_heads + self.groups}[part]

    def edges(self) -> Iterator[tuple[int, ...]]:
        """Every edge's index, in the order of the field's JSON files at each position.

        By layer: writer, then head, then q, k, v; then all writers to the MLP; last to logits.
        """
        if self.positions is None:
            yield from self._edges_at_one()
            return
        for place in range(self.positions.count):
            for row, column in self._edges_at_one():
                yield place, row, column

    def _edges_at_one(self) -> Iterator[tuple[int, int]]:
        for layer in range(self.n_layers):
            columns = self._columns_by_head(layer)
            for row in range(self.before_attention(layer)):
                for column in columns:
                    yield row, column
            for row in range(self.before_mlp(layer) if self.mlps else 0):
                yield row, self.mlp_column(layer)
        for row in range(self.n_writers):
            yield row, self.logits_column

    def _columns_by_head(self, layer: int) -> list[int]:
        """A layer's q, k, v columns by head; a group's k and v come with its first head."""
        first, shared = self.qkv_columns(layer).start, self.n_heads // self.groups
        columns = []
        for head in range(self.n_heads):
            columns.append(first + head)
            if head % shared == 0:
                group = head // shared
                columns += [first + self._part_start(part) + group for part in "kv"]
        return columns
