"""Where heads look on average, and whether it is at every other token.

A head's parity score is its weight at even distances less what keys there would have if all that a
query sees weighed the same, averaged over queries: 0 of a head that does not care, at most about
one half. Positive: it looks at tokens of its own parity, the same player's where players alternate;
negative: at the other's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.analyses.report import Analysis, AnalysisTable, Picture
from harness.analyses.studied import Studied


def even_distances(length: int) -> Tensor:
    """Whether a key is an even number of tokens before its query: bool [T, T]."""
    at = torch.arange(length)
    return (at[:, None] - at) % 2 == 0


def parity_scores(patterns: Sequence[Tensor]) -> Tensor:
    """Of the heads of some layers, patterns [H, T, T] each: [layers, H]; queries from the second.

    Keys count by the share of a query's own weight, so that of a sink nothing is missed.
    """
    scores = []
    for pattern in patterns:
        weights = pattern.double().cpu()
        even = even_distances(weights.shape[-1]).double()
        seen = torch.ones_like(even).tril()
        expected = (even * seen).sum(-1) / seen.sum(-1)
        share = (weights * even).sum(-1) / weights.sum(-1).clamp(min=1e-30)
        scores.append((share - expected)[:, 1:].mean(-1))
    return torch.stack(scores)


def mean_patterns(studied: Studied) -> tuple[list[Tensor], Tensor, int]:
    """Mean patterns [H, T, T] by layer, mean parity scores [layers, H], and how many games.

    Patterns are those of games of full length, of which there are nearly always enough.
    """
    total: list[Tensor] = []
    scores = torch.zeros(0)
    games = full = 0
    for run, _ in studied.games("averaging patterns"):
        patterns = [one.pattern for one in run.frozen.scores]
        own = parity_scores(patterns)
        scores = own if not games else scores + own
        games += 1
        if not total or patterns[0].shape[-1] > total[0].shape[-1]:
            total, full = [torch.zeros_like(one, dtype=torch.float64) for one in patterns], 0
        if patterns[0].shape == total[0].shape:
            total = [one + other for one, other in zip(total, patterns, strict=True)]
            full += 1
    return [one / full for one in total], scores / games, games


def analyse(studied: Studied) -> Analysis:
    """A row for each head, and its mean pattern."""
    patterns, scores, games = mean_patterns(studied)
    rows, panels = [], []
    for layer, pattern in enumerate(patterns):
        even = even_distances(pattern.shape[-1])
        own = torch.eye(len(even), dtype=torch.bool)
        back = torch.arange(len(even), dtype=torch.float64)
        distance = back[:, None] - back
        for head, weights in enumerate(pattern):
            score = float(scores[layer, head])
            later = weights[1:]
            rows.append(
                (
                    f"a{layer}.h{head}",
                    score,
                    float((later * even[1:]).sum(-1).mean()),
                    float((later * ~even[1:]).sum(-1).mean()),
                    float((later * own[1:]).sum(-1).mean()),
                    float(later[:, 0].mean()),
                    float((later * distance[1:]).sum(-1).mean()),
                )
            )
            panels.append(
                {
                    "title": f"a{layer}.h{head} {score:+.2f}",
                    "rows": [],
                    "columns": [],
                    "values": [[round(x, 4) for x in row] for row in weights.tolist()],
                    "signed": False,
                }
            )
    columns = ("head", "parity", "even", "odd", "itself", "first token", "distance")
    table = AnalysisTable(
        f"Mean weights of {games} held-out games",
        columns,
        tuple(rows),
        ("even", "odd", "itself", "first token"),
    )
    strong = sum(abs(row[1]) > 0.2 for row in rows)
    notes = (
        "parity: weight at even distances less that of equal weights; positive heads look at "
        "tokens of their own parity, negative ones at the others.",
        f"{strong} of {len(rows)} heads have a parity score beyond ±0.2.",
    )
    return Analysis([table], notes, (Picture("attention", "heat", {"panels": panels}),))
