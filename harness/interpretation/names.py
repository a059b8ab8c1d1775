"""Names of features: their confirmed labels, or else the concepts that they come closest to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.datasets.concepts import ConceptFamily, columns_of, concept_names
from harness.interpretation.labels import Label, Leaning

OTHER = "other features"
"""The family of features that stand for nothing that is known."""


@dataclass(frozen=True)
class FeatureName:
    """A concept (a column), the F1 of the feature on held-out games, and whether it is a label."""

    concept: int
    f1: float
    confirmed: bool


@dataclass(frozen=True)
class FeatureNames:
    """The names of features, by site and number. `families`: those of the task's concepts."""

    families: tuple[ConceptFamily, ...]
    by_site: Mapping[str, Mapping[int, FeatureName]]

    def text(self, site: str, feature: int) -> str:
        """The concept's name, after a tilde where it is no confirmed label; "" without one."""
        name = self.by_site.get(site, {}).get(feature)
        if name is None:
            return ""
        concept = concept_names(self.families)[name.concept]
        return concept if name.confirmed else f"~{concept} ({name.f1:.2f})"

    def label(self, site: str, feature: int) -> str | None:
        """The concept's name if it is a confirmed label."""
        name = self.by_site.get(site, {}).get(feature)
        confirmed = name is not None and name.confirmed
        return self.text(site, feature) if confirmed else None

    def family(self, site: str, feature: int) -> str:
        """The family of the concept; `OTHER` without one."""
        name = self.by_site.get(site, {}).get(feature)
        return OTHER if name is None else self.family_of(name.concept).name

    def family_of(self, concept: int) -> ConceptFamily:
        """The family of a column."""
        columns = columns_of(self.families)
        return next(
            family
            for family in self.families
            if columns[family.name].start <= concept < columns[family.name].stop
        )

    def place_in_family(self, concept: int) -> int:
        """Which of its family's concepts a column is."""
        first: int = columns_of(self.families)[self.family_of(concept).name].start
        return concept - first


def names_of_features(
    families: tuple[ConceptFamily, ...],
    labels: Mapping[str, Sequence[Label]],
    leanings: Mapping[str, Sequence[Leaning]],
    least: float,
) -> FeatureNames:
    """Confirmed labels first, then leanings of an F1 of at least `least`, by site."""
    by_site = {}
    for site in labels:
        loose = {
            one.feature: FeatureName(one.concept, one.f1, False)
            for one in leanings[site]
            if one.f1 >= least
        }
        firm = {
            one.feature: FeatureName(one.concept, one.f1, True)
            for one in labels[site]
            if one.confirmed
        }
        by_site[site] = {**loose, **firm}
    return FeatureNames(families, by_site)
