"""Signs with which attention carries what is true of a cell, over even and odd distances.

Targets are features of attention that are named after a concept whose family has an opposite (of a
board: `mine` and `theirs`); sources are features of the same concept, or of the opposite one of the
same cell, that were written at earlier tokens. Where players alternate, what is mine an odd number
of tokens ago is theirs, unless it was turned in between: the paper's rule is that the same concept
contributes positively over even distances and negatively over odd ones, and the opposite one the
other way round, and that what is older than a change speaks wrongly.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.analyses.groups import PartGroups
from harness.analyses.reading import all_features, feature_writers, features_read
from harness.analyses.report import Analysis, AnalysisTable
from harness.analyses.studied import Game, Studied
from harness.datasets.concepts import columns_of
from harness.errors import HarnessError

Kind = tuple[bool, bool, bool]
"""Whether the source is of the same concept, at an even distance, with a change in between."""


@dataclass
class SignCount:
    """Contributions of one kind: how many, how many of them positive, and sums of either sign."""

    n: int = 0
    positive: int = 0
    up: float = 0.0
    down: float = 0.0

    def add(self, weights: Tensor) -> None:
        """Take contributions [n]."""
        self.n += len(weights)
        self.positive += int((weights > 0).sum())
        self.up += float(weights.clamp(min=0).sum())
        self.down -= float(weights.clamp(max=0).sum())


class OppositeConcepts:
    """Columns of the concepts that have an opposite, and of what changes them."""

    def __init__(self, studied: Studied) -> None:
        columns = columns_of(studied.features.families)
        by_name = {family.name: family for family in studied.features.families}
        self.opposite: dict[int, int] = {}
        self.change: dict[int, int | None] = {}
        for family in studied.features.families:
            if family.opposite is None or family.cells is None:
                continue
            other = by_name[family.opposite]
            changing = None if family.changed_by is None else by_name[family.changed_by]
            for place, cell in enumerate(family.cells):
                own = columns[family.name].start + place
                assert other.cells is not None
                self.opposite[own] = columns[other.name].start + other.cells.index(cell)
                self.change[own] = None
                if changing is not None and changing.cells is not None:
                    at = changing.cells.index(cell)
                    self.change[own] = columns[changing.name].start + at


def count_signs(game: Game, groups: PartGroups, opposites: OppositeConcepts) -> dict[Kind, Tensor]:
    """Contributions of each kind in one game, from earlier tokens alone."""
    run, truth = game
    concepts = groups.concepts_of_parts(run)
    kinds: dict[Kind, list[Tensor]] = defaultdict(list)
    for at in feature_writers(run):
        if not run.writers[at].name.startswith("a"):
            continue
        rows, columns = all_features(run, at)
        own = concepts[rows, run.offsets[at] + columns]
        chosen = torch.tensor([int(one) in opposites.opposite for one in own], dtype=torch.bool)
        rows, columns, own = rows[chosen], columns[chosen], own[chosen]
        start = 0
        for read in features_read(run, at, rows, columns):
            for token, parts in zip(read.rows.tolist(), read.parts.cpu(), strict=True):
                concept = int(own[start])
                start += 1
                sources = concepts[:token, : parts.shape[1]]
                changing = opposites.change[concept]
                changed = torch.zeros(token, dtype=torch.bool)
                if changing is not None:
                    turned = torch.from_numpy(truth[: token + 1, changing]).long().cumsum(0)
                    changed = turned[token] > turned[:token]
                even = (token - torch.arange(token)) % 2 == 0
                weights = parts[:token]
                for same in (True, False):
                    wanted = concept if same else opposites.opposite[concept]
                    present = (sources == wanted) & (weights != 0)
                    for is_even in (True, False):
                        for is_changed in (True, False):
                            rows_of = (even == is_even) & (changed == is_changed)
                            chosen_parts = weights[present & rows_of[:, None]]
                            kinds[same, is_even, is_changed].append(chosen_parts)
    return {kind: torch.cat(some) for kind, some in kinds.items()}


def analyse(studied: Studied) -> Analysis:
    """A row for each kind; `fits`: contributions with the sign that the rule says."""
    opposites = OppositeConcepts(studied)
    if not opposites.opposite:
        raise HarnessError(
            "signs are those of concepts that have an opposite, and the task has none "
            "(`ConceptFamily.opposite` in harness/datasets/concepts.py)"
        )
    groups = PartGroups(studied)
    counts: dict[Kind, SignCount] = defaultdict(SignCount)
    for game in studied.games("collecting signs"):
        for kind, weights in count_signs(game, groups, opposites).items():
            counts[kind].add(weights)
    rows = []
    whole = sum(one.up + one.down for one in counts.values()) or 1.0
    for kind, one in sorted(counts.items(), reverse=True):
        same, even, changed = kind
        mass = one.up + one.down
        rows.append(
            (
                "the same" if same else "the opposite",
                "even" if even else "odd",
                "yes" if changed else "no",
                one.n,
                "+" if same == even else "-",
                one.positive / one.n if one.n else None,
                one.up / mass if mass else None,
                mass / whole,
            )
        )
    columns = (
        "source",
        "distance",
        "changed since",
        "n",
        "rule",
        "positive",
        "positive mass",
        "of all mass",
    )
    table = AnalysisTable(
        "Contributions from earlier tokens to features of attention",
        columns,
        tuple(rows),
        ("positive", "positive mass", "of all mass"),
    )
    return Analysis([table], _notes(studied, counts))


def _notes(studied: Studied, counts: dict[Kind, SignCount]) -> list[str]:
    fits = {False: [0, 0], True: [0, 0]}
    for (same, even, changed), one in counts.items():
        fits[changed][0] += one.positive if same == even else one.n - one.positive
        fits[changed][1] += one.n
    notes = [f"{studied.choices.sequences} held-out games."]
    for changed, (good, n) in fits.items():
        when = "were overturned since" if changed else "were not overturned since"
        share = f"{good / n:.0%}" if n else "none"
        notes.append(f"Of {n:,} contributions about cells that {when}, {share} follow the rule.")
    return notes
