"""From searches at several thresholds to scores, sizes and numbers for the record."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from harness.discovery.acdc.search import SearchResult
from harness.discovery.problem import Problem

Searched = Mapping[float, SearchResult]
"""One search per threshold."""


def ranked(searched: Searched) -> Tensor:
    """Scores float64 [W, R]: by the largest threshold that an edge survives, then by its growth."""
    scores = torch.zeros_like(next(iter(searched.values())).growth)
    for level, (_, result) in enumerate(sorted(searched.items())):
        growth = result.growth
        within = (1 + growth / (1 + growth.abs())) / 2
        scores = torch.where(result.kept, level + within, scores)
    return scores


def sizes_without_dead_ends(searched: Searched, problem: Problem) -> dict[float, int]:
    """Edges of each search's circuit without dead ends."""
    space, ablation = problem.edges.space, problem.counterfactuals.ablation
    return {
        threshold: int(space.prune(space.flat(result.kept), ablation).sum())
        for threshold, result in searched.items()
    }


def notes_of(searched: Searched) -> dict[str, float]:
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
