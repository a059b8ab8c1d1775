"""ACDC (Conmy et al. 2023): remove edges one by one, from the logits down, where little is lost.

An edge goes if the objective, a mean over all prompt pairs, grows by less than the threshold when
it is removed from what is left; one circuit per threshold, each searched from scratch. Order and
rule are in `acdc_search`. The circuit is exactly that of the one-by-one search, found without
its forwards: only nodes that hear of the tested reader and are heard at the logits are run
(`acdc_plan`, `acdc_state`), several deletions in one batch.

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
whole patched pass is, and near the lower end where little is kept. Edges into nodes that nobody
hears are not tested. `harness.discovery.acdc_cost` measures it. A search that was stopped goes on
(`acdc_resume`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from harness.circuits.select import sizes_to_counts
from harness.discovery.acdc_resume import checkpoint_of
from harness.discovery.acdc_search import Search, SearchResult
from harness.discovery.problem import Discovery, Problem
from harness.errors import HarnessError
from harness.spec.types import Objective

RUNS = 10
CLOSE = 0.98
_FIRST = 0.01
_STEP = 10.0
_APART = 1.01
"""Thresholds whose ratio is less are not told apart."""

DEFAULT_THRESHOLDS = (0.0001, 0.000316, 0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316)

Searched = dict[float, SearchResult]
"""One search per threshold."""


@dataclass(frozen=True)
class Acdc:
    """`thresholds`: one circuit each, or `sizes`: shares of all edges to reach instead.

    `objective`: what is kept small; `speculate`: most deletions tried in one batch.
    """

    thresholds: Sequence[float] = DEFAULT_THRESHOLDS
    sizes: Sequence[float] | None = None
    objective: Objective = "kl"
    speculate: int = 16

    def discover(self, problem: Problem) -> Discovery:
        """Search once per threshold, or as often as the sizes need.

        Raises `HarnessError` for a threshold that is no number, an objective that becomes
        infinite on the way, or a model whose heads are normalised together.
        """
        if problem.model.config.post_norms:
            raise HarnessError(
                "acdc removes edges by subtracting what they carry, but this model normalises what "
                "the heads of a layer add (Gemma 2 and 3), so that they cannot be subtracted one "
                "by one. Choose another method: all others run on such models"
            )
        if any(math.isnan(threshold) for threshold in self.thresholds):
            raise HarnessError("acdc: a threshold is not a number; give numbers such as 0.01")
        searched: Searched = {}
        if self.sizes is None:
            for threshold in sorted(set(self.thresholds)):
                searched[threshold] = self.search(problem, threshold)
            circuits = [result.kept for result in searched.values()]
        else:
            counts = sizes_to_counts(tuple(self.sizes), len(problem.space))
            circuits = [self._reach(problem, n, searched) for n in sorted(set(counts))]
        return Discovery(
            problem.edges.space.flat(ranked(searched)),
            circuits=tuple(problem.edges.space.flat(kept) for kept in circuits),
            notes=_notes(searched),
            earlier_seconds=sum(result.earlier_seconds for result in searched.values()),
        )

    def search(self, problem: Problem, threshold: float) -> SearchResult:
        """One search with its progress; it goes on where a stopped one was."""
        checkpoint = checkpoint_of(problem, self.objective, threshold, self.speculate)
        at = checkpoint.load()
        earlier = checkpoint.earlier_seconds
        if at is not None and at.readers == problem.edges.graph.n_readers:
            return replace(at.found, earlier_seconds=earlier)
        with tqdm(
            total=len(problem.space),
            unit="edge",
            desc=f"acdc at {threshold:.3g}",
            disable=None,
            leave=False,
        ) as bar:
            search = Search(problem, self.objective, threshold, self.speculate)
            if at is not None:
                search.resume(at)
                bar.update(search.tally.tested + search.tally.untested)
            return replace(search.run(bar, checkpoint.save), earlier_seconds=earlier)

    def _reach(self, problem: Problem, n: int, searched: Searched) -> Tensor:
        """The largest circuit found with at most n edges, after a bisection for it."""
        for _ in range(RUNS):
            threshold = next_threshold(_alive(searched, problem), n)
            if threshold is None:
                break
            searched[threshold] = self.search(problem, threshold)
        fitting = {t: size for t, size in _alive(searched, problem).items() if size <= n}
        if not fitting:
            return torch.zeros_like(problem.edges.graph.allowed)
        return searched[max(fitting, key=lambda threshold: fitting[threshold])].kept


def _alive(searched: Searched, problem: Problem) -> dict[float, int]:
    """Edges of each search's circuit without dead ends."""
    space, ablation = problem.edges.space, problem.counterfactuals.ablation
    return {
        t: int(space.prune(space.flat(found.kept), ablation).sum()) for t, found in searched.items()
    }


def next_threshold(sizes: Mapping[float, int], n: int) -> float | None:
    """Where to search next for a circuit of n edges, given the sizes found; None if close enough.

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


def ranked(searched: Searched) -> Tensor:
    """Scores float64 [W, R]: by the largest threshold that an edge survives, then by its growth."""
    scores = torch.zeros_like(next(iter(searched.values())).growth)
    for level, (_, result) in enumerate(sorted(searched.items())):
        growth = result.growth
        within = (1 + growth / (1 + growth.abs())) / 2
        scores = torch.where(result.kept, level + within, scores)
    return scores


def _notes(searched: Searched) -> dict[str, float]:
    """What each search did; `forwards_saved` against one forward per tested edge."""
    notes: dict[str, float] = {}
    for threshold, result in sorted(searched.items()):
        tally = result.tally
        numbers = {
            "edges": float(result.kept.sum()),
            "objective": result.objective,
            "tested": tally.tested,
            "untested": tally.untested,
            "candidates": tally.candidates,
            "forwards_saved": tally.tested - tally.forwards,
            "near_ties": tally.near_ties,
        }
        notes |= {f"{threshold:.4g}/{name}": value for name, value in numbers.items()}
    return notes
