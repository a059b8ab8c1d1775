"""Sequential ACDC for one threshold, several deletions at a time, in the order of `order`.

Rule. An edge goes if the objective then grows by less than the threshold, else it stays; nothing
is taken back. Edges into a node that no kept edge leads out of go untested.

Speculation. K nested deletions {e₁}, {e₁, e₂}, … are run as one batch. They are what the
one-by-one search would run as long as every edge goes; at the first that stays the rest is
discarded and the search restarts behind it. So the circuit is that of K = 1. Kernels differ in
their last bits with the size of a batch, hence a decision closer to the threshold than `NEAR` is
taken again from two runs of one candidate each, and the state between readers is always made by a
run of one candidate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.circuits.edges.patched.readers import centred
from harness.discovery.acdc.order import readers_in_order, writers_in_order
from harness.discovery.acdc.plan import ALL, READ, Needs, ReaderPlan
from harness.discovery.acdc.state import BUFFER, BatchState
from harness.discovery.problem import Problem
from harness.discovery.spent import Spent
from harness.errors import HarnessError
from harness.progress import Stage
from harness.spec.types import Objective

NEAR = 1e-6

_OVERHEAD = 4.0
"""Cost of starting a batch of candidates, in candidates."""

_MEMORY = 1 / 32
"""Weight of the last decision in the running share of edges that stay."""


@dataclass
class Speculation:
    """How many nested deletions to run at once, from the share of edges that lately stayed.

    With share p the expected number of decisions from K candidates is (1 - (1-p)^K) / p; K
    maximises it per cost, a batch costing a fixed `_OVERHEAD` beside its K candidates.
    """

    most: int
    share: float = 0.5

    def decided(self, stays: bool) -> None:
        """Remember a decision."""
        self.share += _MEMORY * (stays - self.share)

    def size(self) -> int:
        """Candidates of the next batch."""
        p = max(self.share, 1e-3)

        def gain(k: int) -> float:
            return (1 - (1 - p) ** k) / p / (_OVERHEAD + k)

        return max(range(1, self.most + 1), key=gain)


@dataclass
class Tally:
    """What a search did. `forwards`: candidates run, each as the share of the blocks it ran."""

    tested: int = 0
    untested: int = 0
    candidates: int = 0
    forwards: float = 0.0
    near_ties: int = 0


@dataclass(frozen=True)
class SearchResult:
    """Kept edges bool [W, R]; growth of the objective when each kept or removed edge was tested
    (float64 [W, R], NaN where it was not); the objective of the circuit; what was done; what was
    spent before the search was resumed.
    """

    kept: Tensor
    growth: Tensor
    objective: float
    tally: Tally = field(default_factory=Tally)
    earlier: Spent = field(default_factory=Spent)


class Partway(NamedTuple):
    """A search that has decided its first `readers` readers, and its speculation's `share`."""

    result: SearchResult
    readers: int
    share: float


class Search:
    """One run of ACDC on all prompt pairs of a problem."""

    def __init__(
        self, problem: Problem, objective: Objective, threshold: float, speculate: int
    ) -> None:
        self.problem, self.graph, self.threshold = problem, problem.edges.graph, threshold
        norm = problem.model.final_norm
        out = [centred(block.out_weights(), norm).contiguous() for block in problem.model.layers()]
        self.states = [
            BatchState(problem, batch, problem.loss(objective, batch), out)
            for batch in problem.batches
        ]
        self.needs = Needs.at_start(self.graph)
        self.growth = torch.full(self.graph.allowed.shape, torch.nan, dtype=torch.float64)
        self.speculation, self.tally = Speculation(speculate), Tally()
        self.current, self.readers = 0.0, 0

    @property
    def kept(self) -> Tensor:
        """Edges not yet removed: bool [W, R]."""
        return self.needs.kept

    @property
    def finished(self) -> bool:
        """Whether every reader has been decided."""
        return self.readers == self.graph.n_readers

    def run(self, shown: Stage, save: Callable[[Search], bool] = lambda _: False) -> SearchResult:
        """Visit every reader that is left; `shown` counts edges.

        `save` is called after each reader, and says whether it kept what is decided.
        """
        for column in islice(readers_in_order(self.graph), self.readers, None):
            before = self.tally.tested + self.tally.untested
            self.visit(column)
            self.readers += 1
            shown.advance(
                self.tally.tested + self.tally.untested - before,
                f"kept {int(self.kept.sum()):,}, objective {self.current:.4g}",
            )
            if save(self):
                shown.saved()
        return self.result()

    def result(self) -> SearchResult:
        """What has been found so far."""
        return SearchResult(self.kept.clone(), self.growth, self.current, self.tally)

    def partway(self) -> Partway:
        """What a search that resumes here needs."""
        return Partway(self.result(), self.readers, self.speculation.share)

    def resume(self, at: Partway) -> None:
        """Stand, to the last bit, where another search of the same problem stood.

        Its decisions are made again without a test. Only for a search that has not begun.
        """
        for column in islice(readers_in_order(self.graph), at.readers):
            visit = self.begin(column)
            self.kept[:, column] = at.result.kept[:, column]
            if visit is not None:
                visit.end()
        self.readers, self.speculation.share = at.readers, at.share
        self.growth, self.current = at.result.growth.clone(), at.result.objective
        self.tally = replace(at.result.tally)

    def visit(self, column: int) -> None:
        """Decide all edges into one reader."""
        visit = self.begin(column)
        if visit is None:
            self.tally.untested += int(self.kept[:, column].sum())
            self.kept[:, column] = False
            return
        visit.decide(writers_in_order(self.graph, column))
        visit.end()

    def begin(self, column: int) -> ReaderVisit | None:
        """Start on one reader: None if nothing needs it. Readers must come in order."""
        self._settle(column)
        if not self.needs.lanes[:, column].any():
            return None
        visit = ReaderVisit(self, self.needs.plan(column, self.problem.device))
        if column == self.graph.logits_column:
            self.current = visit.measure()
        return visit

    def _settle(self, column: int) -> None:
        """Edges out of a node are decided when its first reader's turn comes."""
        layer = column // self.graph.layer_readers
        if layer < self.graph.n_layers:
            if self.graph.mlps and column == self.graph.mlp_column(layer):
                self.needs.settle_mlp(layer)
            elif column == self.graph.qkv_columns(layer).start + self.graph.n_heads - 1:
                self.needs.settle_heads(layer)

    def mean(self, total: Tensor) -> Tensor:
        """Σ over prompts [S] to the objective; refuses what is not a number."""
        if not torch.isfinite(total).all():
            raise HarnessError(
                "acdc: the objective is not a finite number for some circuit; the model's logits "
                "overflow there, or an answer has no probability. Choose another objective"
            )
        return total / self.problem.n_pairs


class ReaderVisit:
    """Deciding the edges into one reader, with the streams of all batches without those gone."""

    def __init__(self, search: Search, plan: ReaderPlan) -> None:
        self.search, self.plan = search, plan
        first = plan.steps[0].stream
        self.streams = [state.lanes[plan.lane].clean[first] for state in search.states]
        self.share = _share_of_forward(search, plan)
        readers = sum(
            len(step.columns[lane]) * search.states[0].lanes[lane].base[0].numel()
            for step in plan.steps[1:]
            for lane in (ALL, READ)
        )
        self.still: list[Any] | None = None
        if readers * len(search.states) <= BUFFER:
            self.still = [state.still(plan) for state in search.states]

    def _still(self, place: int) -> list[tuple[Tensor, Tensor]]:
        if self.still is not None:
            kept: list[tuple[Tensor, Tensor]] = self.still[place]
            return kept
        return self.search.states[place].still(self.plan)

    def decide(self, rows: list[int]) -> None:
        """Remove or keep each edge from `rows`, in this order."""
        place = 0
        while place < len(rows):
            if self._silent(rows[place]):
                self._decide(rows[place], 0.0)
                place += 1
                continue
            tried = self._loud(rows[place : place + self.search.speculation.size()])
            for row, value in zip(tried, self._objectives(tried).tolist(), strict=True):
                place += 1
                if not self._decide(row, value - self.search.current, value):
                    break

    def _loud(self, rows: list[int]) -> list[int]:
        """The rows before the first whose edge carries nothing."""
        quiet = next((i for i, row in enumerate(rows) if self._silent(row)), len(rows))
        return rows[:quiet]

    def _silent(self, row: int) -> bool:
        return all(bool(state.silent[self.plan.lane][row]) for state in self.search.states)

    def _decide(self, row: int, growth: float, value: float | None = None) -> bool:
        """Take the decision about one edge; True if it goes. `value`: the objective without it."""
        search = self.search
        if abs(growth - search.threshold) < NEAR:
            search.tally.near_ties += 1
            if value is not None:
                search.current = self.measure()
                value = float(self._objectives([row])[0])
                growth = value - search.current
        goes = growth < search.threshold
        search.tally.tested += 1
        search.speculation.decided(not goes)
        search.growth[row, self.plan.column] = growth
        if goes:
            search.kept[row, self.plan.column] = False
            self.streams = [
                state.nested(self.plan.lane, stream, [row])[0]
                for state, stream in zip(search.states, self.streams, strict=True)
            ]
            search.current = search.current if value is None else value
        return goes

    def _objectives(self, rows: list[int]) -> Tensor:
        """The objective without the first, the first two … of `rows`: float64 [S]."""
        return self._run(
            [
                state.nested(self.plan.lane, stream, rows)
                for state, stream in zip(self.search.states, self.streams, strict=True)
            ]
        )

    def measure(self) -> float:
        """The objective now, from a run of one candidate."""
        return float(self._run([stream[None] for stream in self.streams])[0])

    def _run(self, streams: list[Tensor]) -> Tensor:
        """The objective for the reader's streams in each batch [S, n, D]."""
        self.search.tally.candidates += len(streams[0])
        self.search.tally.forwards += len(streams[0]) * self.share
        states = enumerate(self.search.states)
        return self.search.mean(
            torch.stack(
                [
                    state.losses(self.plan, streams[place], self._still(place))
                    for place, state in states
                ]
            ).sum(0)
        )

    def end(self) -> None:
        """Make the reader's decisions current everywhere above it."""
        search, column = self.search, self.plan.column
        kept = search.kept[:, column]
        if torch.equal(kept, search.graph.allowed[:, column]):
            return
        search.tally.candidates += 1
        search.tally.forwards += self.share
        losses = [
            state.commit(self.plan, state.mixed(self.plan, kept), self._still(place))
            for place, state in enumerate(search.states)
        ]
        search.current = float(search.mean(torch.stack(losses).sum()))


def _share_of_forward(search: Search, plan: ReaderPlan) -> float:
    """Multiply-adds of one candidate's blocks over those of a whole forward's."""
    config, lanes = search.problem.model.config, search.states[0].lanes
    tokens = [lane.base[0].shape[0] / lanes[ALL].base[0].shape[0] for lane in lanes]
    mlp = config.d_mlp * (3 if config.gated else 2)
    done = 0.0
    for step in plan.steps:
        for lane in (ALL, READ):
            if step.attention is not None:
                maps = len(step.columns[lane]) + len(step.attention.writing[lane])
                done += tokens[lane] * maps * config.d_head
            elif step.stream < 2 * config.n_layers:
                done += tokens[lane] * len(step.columns[lane]) * mlp
    whole = (config.n_read_maps + config.n_heads) * config.d_head + mlp
    return done / (config.n_layers * whole)
