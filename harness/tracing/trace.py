"""A circuit of one prompt: from a target back to the embeddings, part by part.

The parts of largest total influence are its nodes. Each that depends on earlier parts is taken
apart into what these contribute to its activity; a rule says which contributions are edges. Edges
join nodes alone; what the rest contributes is in the sums of each node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.errors import HarnessError
from harness.tracing.influence import Influence, total_influence
from harness.tracing.keep import KeepRule
from harness.tracing.parts import PartKind
from harness.tracing.run import FrozenRun, Place
from harness.tracing.target import Target

CHUNK = 2**24
"""Numbers in the contributions that are held at once."""


@dataclass(frozen=True)
class Sums:
    """What all contributions to a node come to: `positive` + `negative` + `constant` = `value`.

    `kept`: the share of the sum of their magnitudes that lies on edges of the graph.
    """

    value: float
    positive: float
    negative: float
    constant: float
    kept: float


@dataclass(frozen=True)
class TraceNode:
    """A part. `activity`: of a feature or neuron, else None; `influence`: on the target.

    `sums`: None for leaves. Features and neurons are traced to their activity; heads and modules,
    which have none, to their influence.
    """

    name: str
    kind: PartKind
    place: Place
    unit: int | None
    activity: float | None
    influence: float
    sums: Sums | None


@dataclass(frozen=True)
class TraceEdge:
    """A contribution to a node, or to the target (`into` None): a number of nodes' places.

    `heads`: through which heads it goes, by head; empty where it goes through none.
    """

    source: int
    into: int | None
    weight: float
    heads: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptTrace:
    """The graph of a target: nodes in order of computation, edges, sums and leaf budget."""

    target: Target
    run: FrozenRun
    nodes: Sequence[TraceNode]
    edges: Sequence[TraceEdge]
    sums: Sums
    budget: Mapping[str, float]


@torch.no_grad()
def trace(
    run: FrozenRun,
    target: Target,
    *,
    keep: KeepRule | None = None,
    nodes: int = 300,
    above: float | None = None,
    others: Sequence[FrozenRun] = (),
) -> PromptTrace:
    """Trace a target back to at most `nodes` parts.

    `above`: choose them by hierarchical attribution, see `total_influence`. `others`: runs of other
    prompts of the same length, which the rule `null` needs. Raises `HarnessError` without them,
    and for a run of several prompts.
    """
    if run.prompts > 1:
        raise HarnessError(f"a trace is of one prompt; this run is of {run.prompts}")
    keep = keep or KeepRule()
    if keep.kind == "null" and not others:
        raise HarnessError("the rule `null` compares with other prompts of the same length: none")
    influence = total_influence(run, target, above)
    return _Tracing(run, target, influence, keep, nodes, others).trace()


class _Tracing:
    """The state of one trace: what is chosen, what was reached, edges so far."""

    def __init__(
        self,
        run: FrozenRun,
        target: Target,
        influence: Influence,
        keep: KeepRule,
        nodes: int,
        others: Sequence[FrozenRun],
    ) -> None:
        self.run, self.target, self.influence = run, target, influence
        self.keep, self.others = keep, others
        size = influence.parts.abs()
        chosen = size.flatten().topk(min(nodes, size.numel())).indices
        self.chosen = torch.zeros_like(size, dtype=torch.bool)
        self.chosen.view(-1)[chosen] = size.flatten()[chosen] > 0
        self.reached = torch.zeros_like(self.chosen)
        self.sums: dict[tuple[int, int], Sums] = {}
        self.edges: list[tuple[tuple[int, int], tuple[int, int] | None, float, dict[int, float]]]
        self.edges = []

    def trace(self) -> PromptTrace:
        target, run = self.target, self.run
        heads = None if target.heads is None else target.heads[None]
        sums = self._contributions(
            [None], target.stream[None], target.below, [target.value], [target.constant], heads
        )
        for at in reversed(range(len(run.writers))):
            self._expand(at)
        return PromptTrace(target, run, *self._graph(), sums=sums[0], budget=self.influence.budget)

    def _expand(self, at: int) -> None:
        """Take apart the nodes of a writer that were reached."""
        run, writer = self.run, self.run.writers[at]
        if writer.reading is None:
            return
        start = run.offsets[at]
        own = slice(start, start + writer.own)
        rows, columns = self.reached[:, own].nonzero(as_tuple=True)
        numbers = run.length * run.offsets[writer.below]
        size = max(1, CHUNK // max(1, numbers))
        for first in range(0, len(rows), size):
            part = slice(first, first + size)
            self._expand_some(at, rows[part], columns[part])

    def _expand_some(self, at: int, rows: Tensor, columns: Tensor) -> None:
        run, writer = self.run, self.run.writers[at]
        assert writer.reading is not None
        direction = self.influence.directions[at][rows]
        one = writer.reading.expand(rows, columns, direction)
        places = [
            (token, run.offsets[at] + column)
            for token, column in zip(rows.tolist(), columns.tolist(), strict=True)
        ]
        values, constants = one.value.tolist(), one.constant.tolist()
        if one.stream.ndim == 4:
            whole = one.stream.sum(1)
            sums = self._contributions(places, whole, writer.below, values, constants, one.stream)
        else:
            sums = self._at_tokens(places, one.stream, rows, writer.below, values, constants)
        self.sums.update(zip(places, sums, strict=True))

    def _contributions(
        self,
        places: Sequence[tuple[int, int] | None],
        stream: Tensor,
        below: int,
        values: Sequence[float],
        constants: Sequence[float],
        heads: Tensor | None,
    ) -> list[Sums]:
        """Edges into N places that read streams at all tokens, and their sums."""
        run = self.run
        every = run.influence(stream, below)  # [N, T, C]
        columns = every.shape[-1]
        chance = [other.influence(stream, below).flatten(1) for other in self._chance()]
        kept = self.keep.kept(every.flatten(1), torch.cat(chance, 1) if chance else None)
        kept = kept.view_as(every) & self.chosen[:, :columns]
        self.reached[:, :columns] |= kept.any(0)
        at, tokens, sources = kept.nonzero(as_tuple=True)
        by_head = None
        if heads is not None:
            vectors = run.vectors(tokens, sources)
            by_head = (heads[at, :, tokens] * vectors[:, None]).sum(-1).tolist()
        weights = every[at, tokens, sources].tolist()
        self._add(places, at, tokens, sources, weights, by_head)
        return _sums(every.flatten(1), kept.flatten(1), values, constants)

    def _at_tokens(
        self,
        places: Sequence[tuple[int, int]],
        stream: Tensor,
        rows: Tensor,
        below: int,
        values: Sequence[float],
        constants: Sequence[float],
    ) -> list[Sums]:
        """Edges into N places that read the stream at their own tokens alone, and their sums."""
        run = self.run
        every = run.influence_at(stream, rows, below)  # [N, C]
        columns = every.shape[-1]
        chance = [other.influence_at(stream, rows, below) for other in self._chance()]
        kept = self.keep.kept(every, torch.cat(chance, 1) if chance else None)
        kept = kept & self.chosen[rows, :columns]
        at, sources = kept.nonzero(as_tuple=True)
        self.reached[rows[at], sources] = True
        self._add(places, at, rows[at], sources, every[at, sources].tolist(), None)
        return _sums(every, kept, values, constants)

    def _chance(self) -> Sequence[FrozenRun]:
        return self.others if self.keep.kind == "null" else ()

    def _add(
        self,
        places: Sequence[tuple[int, int] | None],
        at: Tensor,
        tokens: Tensor,
        sources: Tensor,
        weights: Sequence[float],
        by_head: Sequence[Sequence[float]] | None,
    ) -> None:
        ends = zip(at.tolist(), tokens.tolist(), sources.tolist(), strict=True)
        for number, (into, token, column) in enumerate(ends):
            shares = {} if by_head is None else _nonzero(by_head[number])
            self.edges.append(((token, column), places[into], weights[number], shares))

    def _graph(self) -> tuple[list[TraceNode], list[TraceEdge]]:
        run = self.run
        columns, tokens = self.reached.T.nonzero(as_tuple=True)
        order = list(zip(tokens.tolist(), columns.tolist(), strict=True))
        index = {place: number for number, place in enumerate(order)}
        nodes = []
        for token, column in order:
            place = run.place(column, token)
            writer, kind = run.writers[place.writer], run.kind(place)
            counted = kind in ("feature", "neuron")
            activity = float(writer.values[token, place.column]) if counted else None
            named = counted or kind == "head"
            nodes.append(
                TraceNode(
                    run.name(place),
                    kind,
                    place,
                    int(writer.units[token, place.column]) if named else None,
                    activity,
                    float(self.influence.parts[token, column]),
                    self.sums.get((token, column)),
                )
            )
        edges = [
            TraceEdge(index[source], None if into is None else index[into], weight, shares)
            for source, into, weight, shares in self.edges
        ]
        return nodes, edges


def _sums(
    every: Tensor, kept: Tensor, values: Sequence[float], constants: Sequence[float]
) -> list[Sums]:
    positive, negative = every.clamp(min=0).sum(-1).tolist(), every.clamp(max=0).sum(-1).tolist()
    size = every.abs()
    share = ((size * kept).sum(-1) / size.sum(-1).clamp(min=1e-30)).tolist()
    rows = zip(values, positive, negative, constants, share, strict=True)
    return [Sums(*row) for row in rows]


def _nonzero(shares: Sequence[float]) -> dict[int, float]:
    return {head: share for head, share in enumerate(shares) if share}
