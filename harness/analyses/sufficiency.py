"""Whether lower features suffice for higher ones: P(target | sources) on held-out games.

Of a feature of an MLP, the sources are the features of its token that contribute most to it where
it is active, on average over training games. Of the first one, two, … of them as many are taken as
predict it best there (F1 of "all are active"). On held-out games stands how often the target is
active where all of them are (`P`), beside how often at tokens of the same positions (`base`), and
at what share of the target's tokens they all are (`recall`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.analyses.reading import all_features, feature_writers, features_read
from harness.analyses.report import Analysis, AnalysisTable, Value
from harness.analyses.studied import Studied
from harness.errors import HarnessError
from harness.interpretation.tokens import TokenChunk, held_out_chunks, training_chunks
from harness.tracing.run import FrozenRun

SOURCES, FEWEST = 4, 10
"""Most sources of a target, and fewest tokens of a target or of its sources."""

GAMES = 40
"""Most training games whose contributions are averaged."""

Feature = tuple[str, int]
"""A site and a number."""


@dataclass(frozen=True)
class Condition:
    """Sources that were chosen for a target."""

    target: Feature
    sources: tuple[Feature, ...]


@dataclass(frozen=True)
class Sufficiency:
    """`n` tokens at which all sources are active; see the module. None where there are none."""

    n: int
    chance: float | None
    base: float | None
    recall: float | None


def sufficiency(target: Tensor, sources: Tensor, positions: Tensor) -> Sufficiency:
    """Of activity of the target bool [N] and of sources [N, n], and positions [N]."""
    on = sources.all(1)
    n, true = int(on.sum()), int(target.sum())
    if not n:
        return Sufficiency(0, None, None, 0.0 if true else None)
    places = int(positions.max()) + 1
    tokens = torch.bincount(positions, minlength=places).double()
    rate = torch.bincount(positions[target], minlength=places).double() / tokens.clamp(min=1)
    both = int((on & target).sum())
    return Sufficiency(
        n, both / n, float(rate[positions[on]].mean()), both / true if true else None
    )


def analyse(studied: Studied) -> Analysis:
    """A row for each of the named features that are active most often, of the family asked for."""
    targets = _targets(studied)
    if not targets:
        raise HarnessError("no feature of an MLP has a name; choose another --family or --loose")
    candidates = _candidates(studied, targets)
    training = _Activity(studied, training_chunks(studied.data, studied.choices.label_tokens))
    conditions = [_condition(training, target, some) for target, some in candidates.items()]
    held_out = _Activity(
        studied, held_out_chunks(studied.data, "test", max(200, studied.choices.sequences))
    )
    rows: list[tuple[Value, ...]] = []
    for one in conditions:
        result = held_out.of(one)
        text = studied.features.text(*one.target)
        sources = " and ".join(_shown(studied, source) for source in one.sources)
        numbers = result.n, result.chance, result.base, result.recall
        rows.append((_short(one.target), text, sources, *numbers))
    columns = ("target", "stands for", "sources", "n", "P", "base", "recall")
    table = AnalysisTable(
        f"P(target | sources) at {len(held_out.positions):,} held-out tokens",
        columns,
        tuple(rows[: studied.choices.rows]),
        columns[4:],
    )
    sure = sum(isinstance(row[4], float) and row[4] >= 0.95 for row in rows)
    half = sum(isinstance(row[4], float) and row[4] >= 0.5 for row in rows)
    note = (
        f"Sources suffice for {sure} of {len(rows)} features in 95 % of cases or more, for {half} "
        "in half of them or more."
    )
    return Analysis([table], (note,))


def _short(feature: Feature) -> str:
    return f"{feature[0].removesuffix('.out')}.{feature[1]}"


def _shown(studied: Studied, feature: Feature) -> str:
    text = studied.features.text(*feature)
    return f"{_short(feature)} {text}".rstrip()


def _targets(studied: Studied) -> list[Feature]:
    """Named features of MLPs, of the family that is asked for; confirmed ones, then by F1."""
    wanted = studied.choices.family
    some = [
        (not name.confirmed, -name.f1, site, unit)
        for site, named in studied.features.by_site.items()
        if site.startswith("m") and site in studied.dictionaries
        for unit, name in named.items()
        if wanted in (None, studied.features.family(site, unit))
    ]
    return [(site, unit) for *_, site, unit in sorted(some)]


def _candidates(studied: Studied, targets: list[Feature]) -> dict[Feature, list[Feature]]:
    """Of each target the features of its token that contribute most where it is active."""
    sums: dict[Feature, dict[str, Tensor]] = {}
    wanted = set(targets)
    games = min(GAMES, studied.choices.sequences)
    for run in studied.training_games(games, "averaging contributions"):
        for at in feature_writers(run):
            site = studied.site_of(run, at)
            if site.startswith("m"):
                _add(studied, run, at, site, wanted, sums)
    return {target: _largest(sums[target]) for target in targets if target in sums}


def _add(
    studied: Studied,
    run: FrozenRun,
    at: int,
    site: str,
    wanted: set[Feature],
    sums: dict[Feature, dict[str, Tensor]],
) -> None:
    rows, columns = all_features(run, at)
    units = run.writers[at].main.units[rows, columns].tolist()
    chosen = torch.tensor([(site, unit) in wanted for unit in units], dtype=torch.bool)
    for read in features_read(run, at, rows[chosen], columns[chosen]):
        for row, unit, parts in zip(
            read.rows.tolist(), read.units.tolist(), read.parts.cpu(), strict=True
        ):
            own = sums.setdefault((site, unit), {})
            for source in feature_writers(run):
                if source >= run.writers[at].below:
                    continue
                writer, name = run.writers[source], studied.site_of(run, source)
                present = writer.main.units[row].cpu()
                start = run.offsets[source]
                weights = parts[start : start + writer.own]
                if name not in own:
                    size = studied.dictionaries[name].features
                    own[name] = torch.zeros(size, dtype=torch.float64)
                kept = present >= 0
                own[name].index_add_(0, present[kept], weights[kept].double())


def _largest(sums: dict[str, Tensor]) -> list[Feature]:
    """Features of the largest positive sums, the largest first."""
    ranked: list[tuple[float, Feature]] = []
    for site, one in sums.items():
        top = one.topk(min(SOURCES, len(one)))
        ranked += [
            (value, (site, unit))
            for value, unit in zip(top.values.tolist(), top.indices.tolist(), strict=True)
            if value > 0
        ]
    ranked.sort(key=lambda pair: -pair[0])
    return [feature for _, feature in ranked[:SOURCES]]


class _Activity:
    """Which features are active at some tokens, and the tokens' positions."""

    def __init__(self, studied: Studied, chunks: Iterator[TokenChunk]) -> None:
        on: dict[str, list[Tensor]] = {site: [] for site in studied.dictionaries}
        positions = []
        with torch.no_grad():
            for chunk in chunks:
                held = chunk.held(studied.model, on)
                for site, one in studied.dictionaries.items():
                    on[site].append(one.active(held[site]).cpu())
                positions.append(torch.from_numpy(chunk.positions))
        self.on = {site: torch.cat(some) for site, some in on.items()}
        self.positions = torch.cat(positions)

    def of(self, one: Condition) -> Sufficiency:
        """How far the condition suffices."""
        sources = torch.stack([self.on[site][:, unit] for site, unit in one.sources], 1)
        site, unit = one.target
        return sufficiency(self.on[site][:, unit], sources, self.positions)


def _condition(training: _Activity, target: Feature, sources: list[Feature]) -> Condition:
    """The first sources whose conjunction has the best F1 for the target."""
    every = [Condition(target, tuple(sources[:n])) for n in range(1, len(sources) + 1)]

    def f1(one: Condition) -> float:
        result = training.of(one)
        if not result.chance or not result.recall or result.n < FEWEST:
            return 0.0
        return 2 * result.chance * result.recall / (result.chance + result.recall)

    return max(every, key=f1)
