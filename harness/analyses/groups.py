"""Parts of a run by what they stand for: families of features, and the sources that are none."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from harness.analyses.studied import SOURCES, Studied
from harness.interpretation.names import OTHER
from harness.tracing.run import FrozenRun


class PartGroups:
    """The groups of all parts: families of concepts in their order, other features, then sources.

    The number after the last group is that of columns that hold no part.
    """

    def __init__(self, studied: Studied) -> None:
        self.studied = studied
        families = [family.name for family in studied.features.families]
        self.names = (*families, OTHER, *dict.fromkeys(SOURCES.values()))
        self._index = {name: at for at, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _of_features(self) -> dict[str, Tensor]:
        """By site, the group of every feature [F]."""
        features = self.studied.features
        return {
            site: torch.tensor(
                [self._index[features.family(site, unit)] for unit in range(one.features)]
            )
            for site, one in self.studied.dictionaries.items()
        }

    @cached_property
    def _concepts(self) -> dict[str, Tensor]:
        """By site, the concept of every feature [F], -1 without one."""
        named = self.studied.features.by_site
        return {
            site: torch.tensor(
                [
                    named[site][unit].concept if unit in named.get(site, {}) else -1
                    for unit in range(one.features)
                ]
            )
            for site, one in self.studied.dictionaries.items()
        }

    def of_parts(self, run: FrozenRun) -> Tensor:
        """The group of every part [T, C]."""
        columns = []
        for at, writer in enumerate(run.writers):
            units = writer.main.units
            if writer.kind == "feature":
                own = self._of_features[self.studied.site_of(run, at)][units.clamp(min=0).cpu()]
            else:
                own = torch.full(units.shape, self._index[SOURCES[writer.kind]])
            columns.append(own.masked_fill(units.cpu() < 0, len(self)))
            for kind in writer.tail_kinds:
                columns.append(torch.full((run.length, 1), self._index[SOURCES[kind]]))
        return torch.cat(columns, -1)

    def concepts_of_parts(self, run: FrozenRun) -> Tensor:
        """The concept of every part [T, C], -1 of what is no feature, or has none."""
        columns = []
        for at, writer in enumerate(run.writers):
            units = writer.main.units.cpu()
            own = torch.full(units.shape, -1)
            if writer.kind == "feature":
                concepts = self._concepts[self.studied.site_of(run, at)]
                own = torch.where(units >= 0, concepts[units.clamp(min=0)], -1)
            columns += [own, torch.full((run.length, len(writer.tail_kinds)), -1)]
        return torch.cat(columns, -1)

    def summed(self, weights: Tensor, groups: Tensor) -> Tensor:
        """Weights [N, P] of parts [P] or [N, P] by group: [N, groups]."""
        out = torch.zeros(len(weights), len(self) + 1, dtype=torch.float64)
        index = groups.expand_as(weights)
        return out.scatter_add_(1, index, weights.double().cpu())[:, : len(self)]
