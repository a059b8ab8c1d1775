"""Which features of a dictionary split in a larger one, and into what.

A feature of the larger dictionary belongs to the feature of the smaller one whose direction is
nearest, if the cosine is at least one half. A feature *splits* that several belong to, is *kept* if
one does, and *lost* if none; those that belong to none are *new*. Only features are counted that
are active on held-out games. `covered`: the share of a split feature's tokens at which one of its
parts is active.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.analyses.report import Analysis, AnalysisTable, Value
from harness.analyses.studied import Studied
from harness.dictionaries.dictionary import DictionarySet
from harness.errors import HarnessError
from harness.interpretation.names import FeatureNames
from harness.interpretation.tokens import held_out_chunks

NEAR = 0.5
"""Least cosine to belong to a feature."""

PARTS = 6
"""Features that a split is shown to fall into."""


@dataclass(frozen=True)
class Families:
    """Which features of a larger dictionary belong to which of a smaller one.

    `owner` [F'] the feature of the smaller one, -1 of none; `cosine` [F'] with the nearest.
    `alive`: of either.
    """

    owner: Tensor
    cosine: Tensor
    alive: tuple[Tensor, Tensor]

    @property
    def sizes(self) -> Tensor:
        """How many belong to each feature of the smaller dictionary [F]."""
        owners = self.owner[self.owner >= 0]
        return torch.bincount(owners, minlength=len(self.alive[0]))

    def parts(self, feature: int) -> list[int]:
        """Those that belong to a feature, the nearest first."""
        (own,) = (self.owner == feature).nonzero(as_tuple=True)
        order = self.cosine[own].argsort(descending=True)
        return own[order].tolist()


def families_of(
    smaller: Tensor, larger: Tensor, alive: tuple[Tensor, Tensor], near: float = NEAR
) -> Families:
    """Of the directions [F, D] and [F', D], and which features are alive."""
    one, other = (x.double() / x.double().norm(dim=1, keepdim=True) for x in (smaller, larger))
    cosines = (other @ one.T).masked_fill(~alive[0], -1.0)
    cosine, owner = cosines.max(1)
    belongs = alive[1] & (cosine >= near)
    return Families(owner.masked_fill(~belongs, -1), cosine, alive)


def analyse(studied: Studied) -> Analysis:
    """The first dictionary's features in each other one: counts by site, and the largest splits."""
    sets = {studied.name: studied.dictionaries} | {
        name: one for name, (one, _) in studied.others.items()
    }
    active = _activity(studied, sets)
    counts: list[tuple[Value, ...]] = []
    tables = []
    for name, (larger, names) in studied.others.items():
        shared = [site for site in studied.dictionaries if site in larger]
        if not shared:
            raise HarnessError(f"dictionaries {studied.name} and {name} have no site in common")
        splits: list[tuple[Value, ...]] = []
        for site in shared:
            on = active[studied.name][site], active[name][site]
            alive = on[0].any(0), on[1].any(0)
            pair = studied.dictionaries[site], larger[site]
            families = families_of(pair[0].decoder, pair[1].decoder, alive)
            counts.append((name, site, *_counts(families)))
            splits += list(_splits(studied, site, families, on, names))
        splits.sort(key=_named_first)
        tables.append(
            AnalysisTable(
                f"Features of {studied.name} that split in {name}",
                ("feature", "stands for", "parts", "covered", "its parts stand for"),
                tuple(splits[: studied.choices.rows]),
                ("covered",),
            )
        )
    columns = ("dictionary", "site", "alive", "of", "kept", "split", "lost", "new")
    title = f"Features of {studied.name} in other dictionaries"
    note = f"{studied.choices.sequences} held-out games; to belong, a cosine of {NEAR} is needed"
    return Analysis([AnalysisTable(title, columns, tuple(counts)), *tables], (note,))


def _counts(families: Families) -> tuple[int, ...]:
    """Alive in the larger and the smaller dictionary; kept, split and lost of these; new."""
    sizes, (one, other) = families.sizes, families.alive
    return (
        int(other.sum()),
        int(one.sum()),
        int((sizes[one] == 1).sum()),
        int((sizes > 1).sum()),
        int((sizes[one] == 0).sum()),
        int((families.owner[other] < 0).sum()),
    )


def _splits(
    studied: Studied,
    site: str,
    families: Families,
    on: tuple[Tensor, Tensor],
    names: FeatureNames,
) -> Iterator[tuple[Value, ...]]:
    module = site.removesuffix(".out")
    for feature in (families.sizes > 1).nonzero().flatten().tolist():
        parts = families.parts(feature)
        own = on[0][:, feature]
        covered = float((on[1][:, parts].any(1) & own).sum() / own.sum())
        texts = [names.text(site, part) for part in parts]
        shown = ", ".join(text for text in texts if text)
        shown = ", ".join(shown.split(", ")[:PARTS])
        text = studied.features.text(site, feature)
        yield f"{module}.{feature}", text, len(parts), covered, shown


def _named_first(row: tuple[Value, ...]) -> tuple[bool, bool, int]:
    """Splits of named features into named ones first, large ones before small ones."""
    _, text, size, _, parts = row
    assert isinstance(size, int)
    return not (text and parts), not text, -size


def _activity(studied: Studied, sets: Mapping[str, DictionarySet]) -> dict[str, dict[str, Tensor]]:
    """By dictionary and site, at which held-out tokens each feature is active: bool [N, F]."""
    on: dict[str, dict[str, list[Tensor]]] = {
        name: {site: [] for site in one} for name, one in sets.items()
    }
    wanted = {site for one in sets.values() for site in one}
    with torch.no_grad():
        for chunk in held_out_chunks(studied.data, "test", studied.choices.sequences):
            held = chunk.held(studied.model, wanted)
            for name, one in sets.items():
                for site, dictionary in one.items():
                    on[name][site].append(dictionary.active(held[site]).cpu())
    return {
        name: {site: torch.cat(some) for site, some in sites.items()} for name, sites in on.items()
    }
