"""Parity in learned position embeddings, and which features read it.

Of the embeddings: the share of their variance that lies between even and odd positions, and how
often the nearer of the two means of all others says a position's parity. Of features: how many
know parity (`evenness`), and how much of what these are made of positions contribute.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from harness.analyses.distance.evenness import ParityCounter
from harness.analyses.reading import all_features, feature_writers, features_read
from harness.analyses.report import Analysis, AnalysisTable
from harness.analyses.studied import Studied
from harness.errors import HarnessError


def between(vectors: Tensor) -> float:
    """Share of the variance of vectors [T, D] that is between even and odd ones."""
    x = vectors.double()
    mean = x.mean(0)
    parts = sum(len(x[at::2]) * (x[at::2].mean(0) - mean).square().sum() for at in (0, 1))
    return float(parts / (x - mean).square().sum())


def told_apart(vectors: Tensor) -> float:
    """How often the nearer mean of the other even or odd vectors [T, D] is that of its own."""
    x = vectors.double()
    right = 0
    for at in range(len(x)):
        others = torch.ones(len(x), dtype=torch.bool)
        others[at] = False
        distances = [
            (x[at] - x[parity::2][others[parity::2]].mean(0)).square().sum() for parity in (0, 1)
        ]
        right += int(distances[at % 2] < distances[1 - at % 2])
    return right / len(x)


def analyse(studied: Studied) -> Analysis:
    """The embeddings, and a row for each module."""
    model = studied.model
    if model.config.positions != "learned":
        raise HarnessError("the model has no learned positions that parity could be read out of")
    vectors = model.position(studied.data.longest).reshape(studied.data.longest, -1)
    counter, runs = ParityCounter(studied), []
    for run, _ in studied.games("counting tokens of either parity"):
        counter.add(run)
        runs.append(run.tokens)
    signs = counter.signs()
    shares: dict[tuple[str, bool], list[Tensor]] = defaultdict(list)
    for tokens in runs:
        run = studied.frozen(tokens)
        positions = slice(run.offsets[run.writer_of("position")], None)
        positions = slice(positions.start, positions.start + 1)
        for at in feature_writers(run):
            name = run.writers[at].name
            told = signs[studied.site_of(run, at)]
            for read in features_read(run, at, *all_features(run, at)):
                size = read.parts.abs()
                share = size[..., positions].flatten(1).sum(1) / size.flatten(1).sum(1)
                for is_told in (True, False):
                    chosen = (told[read.units.cpu()] != 0) == is_told
                    shares[name, is_told].append(share[chosen.to(share.device)].cpu())
    rows = []
    for site, one in signs.items():
        name = site.partition(".")[0]
        means = [_mean(shares[name, told]) for told in (True, False)]
        even, odd = int((one > 0).sum()), int((one < 0).sum())
        rows.append((name, counter.alive(site), even, odd, *means))
    columns = ("module", "alive", "even", "odd", "positions in these", "in others")
    table = AnalysisTable(
        "Features of one parity, and what of their contributions positions make up",
        columns,
        tuple(rows),
        columns[4:],
    )
    note = (
        f"position embeddings 0 to {len(vectors) - 1}: {between(vectors):.0%} of their variance is "
        f"between even and odd ones (by chance {1 / (len(vectors) - 1):.0%}); the nearer mean of "
        f"the others tells {told_apart(vectors):.0%} of them apart"
    )
    return Analysis([table], (f"{len(runs)} held-out games.", note))


def _mean(some: list[Tensor]) -> float | None:
    every = torch.cat(some) if some else torch.zeros(0)
    return float(every.mean()) if len(every) else None
