"""Whether other games, or other dictionaries of a model, give the same features and circuits.

Features of two dictionaries are paired one to one so that the sum of their directions' cosines is
largest, and count as the same from a cosine of `NEAR` on (Paulo and Belrose 2025). `activity`: the
correlation of a pair's strengths over held-out tokens, and `best activity` that of a feature with
whichever feature of the other dictionary follows it best, near or not.

A circuit is the n features of the largest mean total influence on the largest outputs of held-out
games, every fifth token (`STEP`). Two are compared by their Jaccard index: of either half of the
games, and of two dictionaries through the pairs; `by chance`: expected of n features drawn at
random of those that are active, paired as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from harness.analyses.report import Analysis, AnalysisTable, Value
from harness.analyses.studied import Studied
from harness.dictionaries.dictionary import DictionarySet
from harness.errors import HarnessError
from harness.interpretation.names import FeatureNames
from harness.interpretation.tokens import held_out_chunks
from harness.progress import stage
from harness.tracing.influence import total_influence
from harness.tracing.run import FrozenRun, frozen_run
from harness.tracing.target import logits_target

NEAR = 0.7
"""Least cosine of features that count as the same."""

STEP = 5
SIZES = (30, 100, 300)
PACK = 4
"""Games that share a frozen run."""


class Pairs(NamedTuple):
    """K pairs of the same feature in two dictionaries [K]; `nearest` [F]: cosines of the first's
    features with the nearest of the other, where both are alive (else -1).
    """

    one: Tensor
    other: Tensor
    cosine: Tensor
    nearest: Tensor


def pairs_of(one: Tensor, other: Tensor, alive: tuple[Tensor, Tensor], near: float = NEAR) -> Pairs:
    """Pair directions [F, D] and [F', D], of those that are alive, one to one."""
    rows, columns = (x.nonzero().flatten() for x in alive)
    units = (x.double() / x.double().norm(dim=1, keepdim=True) for x in (one, other))
    every = next(units)[rows] @ next(units)[columns].T
    nearest = torch.full((len(one),), -1.0, dtype=torch.float64)
    if every.numel():
        nearest[rows] = every.max(1).values
    at, to = (torch.from_numpy(x) for x in linear_sum_assignment(every.numpy(), maximize=True))
    cosine = every[at, to]
    kept = cosine >= near
    return Pairs(rows[at[kept]], columns[to[kept]], cosine[kept], nearest)


def jaccard(one: Tensor, other: Tensor, pairs: Pairs | None = None) -> float:
    """|A ∩ B| / |A ∪ B| of features bool [F] and [F'], the same ones by their pairs."""
    common = one & other if pairs is None else one[pairs.one] & other[pairs.other]
    return _index(int(common.sum()), (int(one.sum()), int(other.sum())))


def _index(both: float, sizes: Sequence[int]) -> float:
    """Jaccard index of two sets that have so many in common."""
    return both / max(1.0, sum(sizes) - both)


def correlations(one: Tensor, other: Tensor) -> Tensor:
    """Of strengths [N, F] and [N, F'] over tokens: [F, F']; 0 of what does not vary."""
    scaled = []
    for x in (one.double(), other.double()):
        centred = x - x.mean(0)
        scaled.append(centred / centred.norm(dim=0).clamp(min=1e-12))
    product: Tensor = scaled[0].T @ scaled[1]
    return product


# ---------------------------------------------------------------- what is measured
@dataclass(frozen=True)
class Activity:
    """Of one dictionary set on held-out games, by site.

    `strengths` [N, F] at all tokens. `influence` [G, F]: mean magnitude of features' total
    influence in each of G games.
    """

    strengths: Mapping[str, Tensor]
    influence: Mapping[str, Tensor]

    def alive(self, site: str) -> Tensor:
        """Features that are ever active: bool [F]."""
        return (self.strengths[site] > 0).any(0)

    def circuit(self, sites: list[str], n: int, games: slice = slice(None)) -> dict[str, Tensor]:
        """The n features of the largest influence in some games, if so many have any.

        By site, bool [F].
        """
        scores = [self.influence[site][games].mean(0) for site in sites]
        every = torch.cat(scores)
        kept = torch.zeros(len(every), dtype=torch.bool)
        kept[every.argsort(descending=True, stable=True)[:n]] = True
        kept &= every > 0
        parts = kept.split([len(one) for one in scores])
        return dict(zip(sites, parts, strict=True))


@torch.no_grad()
def measured(studied: Studied, dictionaries: DictionarySet) -> Activity:
    """Strengths and influences of all features on the held-out games."""
    strengths: dict[str, list[Tensor]] = {site: [] for site in dictionaries}
    influence: dict[str, list[Tensor]] = {site: [] for site in dictionaries}
    wanted = studied.choices.sequences
    with stage("tracing outputs of games", wanted, "game") as shown:
        for chunk in held_out_chunks(studied.data, "test", wanted):
            held = chunk.held(studied.model, dictionaries)
            for site, one in dictionaries.items():
                strengths[site].append(one.encode(held[site]).cpu())
            tokens, lengths = torch.from_numpy(chunk.tokens).long(), torch.from_numpy(chunk.lengths)
            for length in lengths.unique().tolist():
                for some in tokens[lengths == length, :length].split(PACK):
                    run = frozen_run(studied.model, some, dictionaries, "modules")
                    for site, values in _influences(run, dictionaries):
                        influence[site].append(values)
                    shown.advance(len(some))
    return Activity(
        {site: torch.cat(some) for site, some in strengths.items()},
        {site: torch.cat(some) for site, some in influence.items()},
    )


def _influences(run: FrozenRun, dictionaries: DictionarySet) -> Iterator[tuple[str, Tensor]]:
    """By site, |Σ over tokens of total influence| on the largest output, mean over targets [B, F].

    A game of fewer than `STEP` tokens has one target, its last token.
    """
    length = run.length // run.prompts
    starts = run.index(range(run.prompts)) * length
    targets = list(range(STEP - 1, length, STEP)) or [length - 1]
    total = dict.fromkeys(dictionaries, torch.zeros(()))
    for target in targets:
        tokens = starts + target
        weights = torch.zeros(run.prompts, run.frozen.raw.shape[-1], dtype=torch.float64)
        weights[torch.arange(run.prompts), run.frozen.raw[tokens].argmax(-1).cpu()] = 1
        centred = weights - weights.mean(-1, keepdim=True)
        parts = total_influence(run, logits_target(run, "largest", centred, tokens)).parts
        for at, writer in enumerate(run.writers):
            if writer.kind != "feature":
                continue
            site = next(one for one in dictionaries if one.startswith(f"{writer.name}."))
            own = parts[:, run.offsets[at] : run.offsets[at] + writer.own].double()
            summed = writer.main.by_unit(own, run.prompts, dictionaries[site].features)
            total[site] = total[site] + summed.abs() / len(targets)
    yield from total.items()


# ---------------------------------------------------------------- the analysis
def analyse(studied: Studied) -> Analysis:
    """Tables of features by site, and of circuits by size; the first dictionary with each other."""
    first = measured(studied, studied.dictionaries)
    features: list[tuple[Value, ...]] = []
    circuits: list[tuple[Value, ...]] = []
    everywhere = list(studied.dictionaries)
    games = len(next(iter(first.influence.values())))
    if games < 2:
        raise HarnessError("circuits of two halves need two games or more (--sequences)")
    for n in SIZES:
        halves = (
            first.circuit(everywhere, n, half) for half in (slice(0, None, 2), slice(1, None, 2))
        )
        one, other = (torch.cat([*half.values()]) for half in halves)
        alive = sum(int(first.alive(site).sum()) for site in everywhere)
        circuits.append(
            (
                f"{studied.name}, other games",
                n,
                jaccard(one, other),
                _chance(one, other, alive),
                None,
            )
        )
    for name, (dictionaries, names) in studied.others.items():
        sites = [site for site in studied.dictionaries if site in dictionaries]
        if not sites:
            raise HarnessError(f"dictionaries {studied.name} and {name} have no site in common")
        second = measured(studied, dictionaries)
        pairs = {}
        for site in sites:
            directions = studied.dictionaries[site].decoder, dictionaries[site].decoder
            alive_in = first.alive(site), second.alive(site)
            pairs[site] = pairs_of(*directions, alive_in)
            followed = correlations(first.strengths[site], second.strengths[site])
            agreed = _agreed(studied.features, names, site, pairs[site])
            features.append((name, site, *_row(pairs[site], alive_in, followed), *agreed))
        for n in SIZES:
            circuits.append((name, n, *_compared(first, second, pairs, n)))
    return Analysis(
        [
            AnalysisTable(
                f"Features of {studied.name} in other dictionaries",
                _FEATURES,
                tuple(features),
                ("the same", "same concept"),
            ),
            AnalysisTable(
                "Circuits of the n features of the largest influence",
                ("compared with", "n", "Jaccard", "by chance", "influence in common"),
                tuple(circuits),
                ("influence in common",),
            ),
        ],
        (f"{games} held-out games; features are the same from a cosine of {NEAR} on.",),
    )


_FEATURES = (
    "dictionary",
    "site",
    "alive",
    "of",
    "nearest cosine",
    "the same",
    "activity",
    "best activity",
    "both named",
    "same concept",
)


def _row(pairs: Pairs, alive: tuple[Tensor, Tensor], followed: Tensor) -> tuple[Value, ...]:
    one, other = alive
    n = int(one.sum())
    activity = followed[pairs.one, pairs.other]
    return (
        n,
        int(other.sum()),
        float(pairs.nearest[one].mean()) if n else None,
        len(pairs.one) / n if n else None,
        float(activity.mean()) if len(activity) else None,
        float(followed[one].max(1).values.mean()) if n else None,
    )


def _agreed(
    one: FeatureNames, other: FeatureNames, site: str, pairs: Pairs
) -> tuple[int, float | None]:
    """Pairs whose features both have a confirmed label, and the share of these with the same."""
    named = (one.by_site.get(site, {}), other.by_site.get(site, {}))
    both = same = 0
    for first, second in zip(pairs.one.tolist(), pairs.other.tolist(), strict=True):
        labels = named[0].get(first), named[1].get(second)
        if labels[0] and labels[1] and labels[0].confirmed and labels[1].confirmed:
            both += 1
            same += labels[0].concept == labels[1].concept
    return both, same / both if both else None


def _compared(
    first: Activity, second: Activity, pairs: Mapping[str, Pairs], n: int
) -> tuple[float, float, float]:
    """Jaccard index of two circuits, by chance, and the share of the first's influence in both."""
    sites = list(pairs)
    one, other = first.circuit(sites, n), second.circuit(sites, n)
    both, mass, whole, paired = 0, 0.0, 0.0, 0
    alive, sizes = [0, 0], [0, 0]
    for site, own in pairs.items():
        common = one[site][own.one] & other[site][own.other]
        score = first.influence[site].mean(0)
        both += int(common.sum())
        mass += float(score[own.one[common]].sum())
        whole += float(score[one[site]].sum())
        paired += len(own.one)
        alive[0] += int(first.alive(site).sum())
        alive[1] += int(second.alive(site).sum())
        sizes[0] += int(one[site].sum())
        sizes[1] += int(other[site].sum())
    expected = paired * sizes[0] / max(1, alive[0]) * sizes[1] / max(1, alive[1])
    return _index(both, sizes), _index(expected, sizes), mass / (whole or 1.0)


def _chance(one: Tensor, other: Tensor, alive: int) -> float:
    """The index of the expected intersection of as many features out of those alive."""
    sizes = int(one.sum()), int(other.sum())
    return _index(sizes[0] * sizes[1] / max(1, alive), sizes)
