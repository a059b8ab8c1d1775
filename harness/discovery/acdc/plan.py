"""What has to be run again when one reader's stream changes: nodes on kept paths, nothing else.

ACDC goes from the logits down. While it tests the edges into one reader, every edge into lower
readers is still there and every edge into higher ones is decided. Hence only nodes that kept edges
lead to from the reader can change, and they matter only if kept edges lead on to the logits.

Streams come in two lanes. A node whose output reaches, along kept edges, no key or value matters
at the answer positions alone: its MLP, queries and output are run there only (lane `READ`). Keys
and values, and whatever leads to them, are needed at all tokens (lane `ALL`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.circuits.edges.graph import Graph

ALL, READ = 0, 1
LANES = (ALL, READ)
Pair = tuple[Tensor, Tensor]
"""One tensor for each lane."""


@dataclass(frozen=True)
class Attention:
    """Heads of a layer that run anew. Places of readers are counted from the layer's first.

    `heads` [h]; `used` [u]: places of the readers that these heads have; `q`, `k`, `v` [h]: where
    in `used` each head's are; `changing`: by lane, where in `used` the readers are that see
    something new; `writing`: by lane, which of `heads` are read in it.
    """

    layer: int
    heads: Tensor
    used: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    changing: Pair
    writing: Pair


@dataclass(frozen=True)
class Step:
    """One attention layer, one MLP or the final reader, some of whose readers see something new.

    `stream`: 2l, 2l+1 or 2L, as in `Activations.streams`. By lane: `columns` [c] of the readers,
    `still` [c, W]: writers they keep that do not change; `moving` [c, w]: those that do, the w
    changing writers below; `slots`: where in the lane's buffer the step's own writers go.
    """

    stream: int
    columns: Pair
    still: Pair
    moving: Pair
    slots: tuple[slice, slice]
    attention: Attention | None = None


@dataclass(frozen=True)
class ReaderPlan:
    """How to get from reader `column`, which sees a new stream in `lane`, to the logits.

    `writers`: rows of the writers that change, by lane, ascending; the first step is the reader's.
    """

    column: int
    lane: int
    steps: tuple[Step, ...]
    writers: Pair

    @property
    def widest(self) -> tuple[int, int]:
        """Streams per candidate that live at once, by lane: writers and one step's readers."""
        one, two = (
            len(self.writers[lane]) + max(len(step.columns[lane]) for step in self.steps)
            for lane in LANES
        )
        return one, two


@dataclass
class Needs:
    """Edges still kept (bool [W, R]), and for every reader whether and where it is needed.

    `lanes` bool [2, R]: lane of each reader of a live node; false in both: nothing needs it.
    Nodes are settled from above, once all edges out of them are decided.
    """

    graph: Graph
    kept: Tensor
    lanes: Tensor

    @classmethod
    def at_start(cls, graph: Graph) -> Needs:
        """All edges kept; only the final reader is settled."""
        lanes = torch.zeros(2, graph.n_readers, dtype=torch.bool)
        lanes[READ, graph.logits_column] = True
        return cls(graph, graph.allowed.clone(), lanes)

    def needed(self, row: int) -> tuple[bool, bool]:
        """Whether a writer is needed in each lane."""
        one, two = (self.lanes & self.kept[row]).any(1).tolist()
        return one, two

    def settle_mlp(self, layer: int) -> None:
        """Decide where a layer's MLP is needed."""
        self._settle(self.graph.mlp_row(layer), self.graph.mlp_column(layer))

    def settle_heads(self, layer: int) -> None:
        """Decide where a layer's heads are needed; keys and values of live ones, everywhere."""
        columns, rows = self.graph.qkv_columns(layer), self.graph.head_rows(layer)
        for head in range(self.graph.n_heads):
            self._settle(rows.start + head, columns.start + head)
        shared = slice(columns.start + self.graph.n_heads, columns.stop)
        live = self.lanes[:, columns.start : columns.start + self.graph.n_heads].any(0)
        self.lanes[ALL, shared] = (self.graph.owners[shared, rows] & live).any(1)

    def _settle(self, row: int, column: int) -> None:
        everywhere, at_answers = self.needed(row)
        self.lanes[ALL, column] = everywhere
        self.lanes[READ, column] = at_answers and not everywhere

    def plan(self, column: int, device: torch.device) -> ReaderPlan:
        """What follows from a new stream at a live reader."""
        return _Planner(self, column, device).plan()


class _Planner:
    """Walks up from one reader, collecting what changes."""

    def __init__(self, needs: Needs, column: int, device: torch.device) -> None:
        self.needs, self.graph, self.column, self.device = needs, needs.graph, column, device
        self.changing = torch.zeros(self.graph.n_writers, dtype=torch.bool)
        self.writers: tuple[list[int], list[int]] = ([], [])
        self.steps: list[Step] = []

    def plan(self) -> ReaderPlan:
        first, graph = self.column // self.graph.layer_readers, self.graph
        for layer in range(first, graph.n_layers):
            self._attention(layer)
            if graph.mlps:
                self._mlp(layer)
        self._step(2 * graph.n_layers, graph.n_writers, self._new(_only(graph.logits_column)), [])
        lane = int(self.needs.lanes[READ, self.column])
        writers = self._index(self.writers[ALL]), self._index(self.writers[READ])
        return ReaderPlan(self.column, lane, tuple(self.steps), writers)

    def _new(self, columns: slice) -> list[int]:
        """Live readers among these that see something new."""
        changed = (self.needs.kept[:, columns] & self.changing[:, None]).any(0)
        changed &= self.needs.lanes[:, columns].any(0)
        places = (changed.nonzero().flatten() + columns.start).tolist()
        own = columns.start <= self.column < columns.stop
        return sorted({*places, self.column}) if own else places

    def _attention(self, layer: int) -> None:
        columns, rows = self.graph.qkv_columns(layer), self.graph.head_rows(layer)
        new = self._new(columns)
        if not new:
            return
        fed = self.graph.owners[new][:, rows].any(0)
        live = self.needs.lanes[:, columns.start : columns.start + self.graph.n_heads].any(0)
        heads = (fed & live).nonzero().flatten().tolist()
        attention = self._heads(layer, heads, [column - columns.start for column in new])
        below = self.graph.before_attention(layer)
        self._step(2 * layer, below, new, [rows.start + head for head in heads], attention)

    def _heads(self, layer: int, heads: list[int], new: list[int]) -> Attention:
        n, groups = self.graph.n_heads, self.graph.groups
        q = heads
        k = [n + head * groups // n for head in heads]
        v = [groups + place for place in k]
        used = sorted({*q, *k, *v})
        where = {place: index for index, place in enumerate(used)}
        first = self.graph.qkv_columns(layer).start
        row = self.graph.head_rows(layer).start

        def by_lane(lane: int) -> tuple[Tensor, Tensor]:
            changing = [where[place] for place in new if self.needs.lanes[lane, first + place]]
            writing = [i for i, head in enumerate(heads) if self.needs.needed(row + head)[lane]]
            return self._index(changing), self._index(writing)

        changing, writing = zip(by_lane(ALL), by_lane(READ), strict=True)
        q_at, k_at, v_at = (self._index([where[place] for place in part]) for part in (q, k, v))
        heads_at, used_at = self._index(heads), self._index(used)
        return Attention(layer, heads_at, used_at, q_at, k_at, v_at, changing, writing)

    def _mlp(self, layer: int) -> None:
        new = self._new(_only(self.graph.mlp_column(layer)))
        if new:
            row = self.graph.mlp_row(layer)
            self._step(2 * layer + 1, self.graph.before_mlp(layer), new, [row])

    def _step(
        self,
        stream: int,
        below: int,
        columns: list[int],
        rows: list[int],
        attention: Attention | None = None,
    ) -> None:
        """Take down a step whose readers `columns` see something new, and which writes `rows`."""
        if not columns:
            return
        by_lane = [[c for c in columns if self.needs.lanes[lane, c]] for lane in LANES]
        still, moving, slots = [], [], []
        for lane in LANES:
            kept = self.needs.kept[:, by_lane[lane]].T
            still.append((kept & ~self.changing).float().to(self.device))
            under = [row for row in self.writers[lane] if row < below]
            moving.append(kept[:, under].float().to(self.device))
            start = len(self.writers[lane])
            self.writers[lane].extend(row for row in rows if self.needs.needed(row)[lane])
            slots.append(slice(start, len(self.writers[lane])))
        self.changing[rows] = True
        step = Step(
            stream,
            (self._index(by_lane[ALL]), self._index(by_lane[READ])),
            (still[ALL], still[READ]),
            (moving[ALL], moving[READ]),
            (slots[ALL], slots[READ]),
            attention,
        )
        self.steps.append(step)

    def _index(self, places: list[int]) -> Tensor:
        return torch.tensor(places, dtype=torch.long, device=self.device)


def _only(column: int) -> slice:
    return slice(column, column + 1)
