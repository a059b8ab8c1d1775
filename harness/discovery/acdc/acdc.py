"""ACDC (Conmy et al. 2023): remove edges one by one, from the logits down, where little is lost.

An edge goes if the objective, a mean over all prompt pairs, grows by less than the threshold when
it is removed from what is left; one circuit per threshold, each searched from scratch. Order and
rule are in `search`. The circuit is exactly that of the one-by-one search, found without
its forwards: only nodes that lie between the tested reader and the logits are run
(`plan`, `state`), several deletions in one batch.

Ranking. With thresholds τ₁ < … < τₙ an edge's level is the number of the largest threshold at
which it is still in the circuit. score = level - 1 + ½(1 + g/(1+|g|)), g being how much the
objective grew when the edge was tested at that threshold; 0 where even the smallest removed it.

`sizes`: the threshold is bisected on a log scale, at most `RUNS` searches per size (searches for
one size serve the others), until a circuit, dead ends removed, has at most the wanted number of
edges and no fewer than `CLOSE` of it.

In half precision a growth below about ε (0.008 in bfloat16, 0.001 in float16) of the logits is
rounding, and so is the decision; thresholds should be above it.

Cost: about two plain forward+backwards to set a search up, and one candidate per tested edge at
least, each the share of a forward that its plan runs, and an unembedding: 0.006 plain
forward+backwards for GPT-2 small by count if the answer is read and nothing else run, 0.3 if the
whole patched pass is, and near the lower end where little is kept. Edges into nodes that nothing
needs are not tested. `harness.discovery.acdc.cost` measures it. A search that was stopped resumes
(`resume`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Annotated, ClassVar

from harness.discovery.fields import Minimised
from harness.discovery.info import Extent, MethodInfo, Params
from harness.discovery.problem import Discovery, Problem
from harness.discovery.spent import Spent
from harness.errors import HarnessError
from harness.progress import stage
from harness.spec.key import About, Key

if TYPE_CHECKING:
    from torch import Tensor

    from harness.discovery.acdc.search import SearchResult

RUNS = 10
CLOSE = 0.98
_FIRST = 0.01
_STEP = 10.0
_APART = 1.01
"""Thresholds whose ratio is less count as equal."""


@dataclass(frozen=True)
class Acdc:
    """One search and circuit for each threshold, or for each size."""

    ABOUT: ClassVar = About("Parameters of `acdc`", name="acdc")

    thresholds: Annotated[
        tuple[float, ...],
        Key(
            "Thresholds",
            "An edge goes when the objective grows by less than this; one circuit for each.",
            [[0.01]],
            min_items=1,
            max_items=100,
            unique=True,
        ),
    ] = (0.0001, 0.000316, 0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316)
    sizes: Annotated[
        tuple[Annotated[float, Key(above=0, below=1)], ...] | None,
        Key(
            "Sizes",
            "Shares of all edges to reach instead, by bisection of the threshold; null uses the "
            "thresholds.",
            [[0.03]],
            min_items=1,
            max_items=100,
        ),
    ] = None
    objective: Minimised = "kl"
    speculate: Annotated[
        int,
        Key(
            "Speculate",
            "Most deletions that are tried in one batch; the circuit is the same for any number.",
            [1, 16],
            minimum=1,
            maximum=1024,
        ),
    ] = 16

    def discover(self, problem: Problem) -> Discovery:
        """Search once per threshold, or as often as the sizes need.

        Raises `HarnessError` for a threshold that is no number, an objective that becomes
        infinite on the way, or a model whose heads are normalised together.
        """
        from harness.circuits.select import sizes_to_counts
        from harness.discovery.acdc.results import notes_of, ranked

        if problem.model.config.post_norms:
            raise HarnessError(
                "acdc removes edges by subtracting what they carry, but this model normalises what "
                "the heads of a layer add (Gemma 2 and 3), so that they cannot be subtracted one "
                "by one. Choose another method: all others run on such models"
            )
        if any(math.isnan(threshold) for threshold in self.thresholds):
            raise HarnessError("acdc: a threshold is not a number; give numbers such as 0.01")
        space = problem.edges.space
        searched: dict[float, SearchResult] = {}
        if self.sizes is None:
            for threshold in sorted(set(self.thresholds)):
                searched[threshold] = self.search(problem, threshold)
            circuits = [result.kept for result in searched.values()]
        else:
            counts = sizes_to_counts(tuple(self.sizes), len(space))
            circuits = [self._reach(problem, n, searched) for n in sorted(set(counts))]
        earlier = reduce(Spent.plus, (result.earlier for result in searched.values()), Spent())
        return Discovery(
            space.flat(ranked(searched)),
            circuits=tuple(space.flat(kept) for kept in circuits),
            notes=notes_of(searched),
            earlier_seconds=earlier.wall,
            earlier_processor_seconds=earlier.processor,
        )

    def search(self, problem: Problem, threshold: float) -> SearchResult:
        """One search with its progress; it resumes where a stopped one was."""
        from harness.discovery.acdc.resume import checkpoint_of
        from harness.discovery.acdc.search import Search

        checkpoint = checkpoint_of(problem, self.objective, threshold, self.speculate)
        at = checkpoint.load()
        earlier = checkpoint.earlier
        if at is not None and at.readers == problem.edges.graph.n_readers:
            return replace(at.result, earlier=earlier)
        done = 0 if at is None else at.result.tally.tested + at.result.tally.untested
        with stage(f"acdc at {threshold:.3g}", len(problem.space), "edge", done) as shown:
            search = Search(problem, self.objective, threshold, self.speculate)
            if at is not None:
                search.resume(at)
            return replace(search.run(shown, checkpoint.save), earlier=earlier)

    def _reach(self, problem: Problem, n: int, searched: dict[float, SearchResult]) -> Tensor:
        """The largest circuit [W, R] with at most n edges, after a bisection for it."""
        import torch

        from harness.discovery.acdc.results import sizes_without_dead_ends

        for _ in range(RUNS):
            threshold = next_threshold(sizes_without_dead_ends(searched, problem), n)
            if threshold is None:
                break
            searched[threshold] = self.search(problem, threshold)
        sizes = sizes_without_dead_ends(searched, problem)
        fitting = {threshold: size for threshold, size in sizes.items() if size <= n}
        if not fitting:
            return torch.zeros_like(problem.edges.graph.allowed)
        return searched[max(fitting, key=lambda threshold: fitting[threshold])].kept


def next_threshold(sizes: Mapping[float, int], n: int) -> float | None:
    """Where to search next for a circuit of n edges, given the sizes so far; None if close enough.

    Towards ten times smaller or larger thresholds until some circuit fits and some does not, then
    in the middle between these, on a log scale.
    """
    fitting = [threshold for threshold, size in sizes.items() if size <= n]
    if not sizes:
        return _FIRST
    if not fitting:
        return max(sizes) * _STEP
    if max(sizes[threshold] for threshold in fitting) >= CLOSE * n:
        return None
    above = min(fitting)
    below = max((threshold for threshold in sizes if threshold < above), default=None)
    if below is None:
        return above / _STEP
    return math.sqrt(above * below) if above > _APART * below else None


def _passes(params: Params, extent: Extent) -> float:
    """About 0.05 for each edge and search; half of the searches that a size may need."""
    sizes = params["sizes"]
    searches = len(params["thresholds"]) if sizes is None else len(sizes) * RUNS / 2
    return searches * (2 + 0.05 * extent.elements)


INFO = MethodInfo(
    kind="acdc",
    title="Automatic circuit discovery: removes edges one by one, from the logits down",
    method=Acdc,
    cost="0.006 to 0.3 per tested edge",
    needs="edges",
    objective="minimised",
    per_token=False,
    post_norms=False,
    passes=_passes,
)
