"""Features that tell even tokens from odd ones, and parts of a run by what they know of parity.

A parity feature is one whose mean activity at tokens of one parity is at least three times that at
those of the other.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from harness.analyses.studied import Studied
from harness.tracing.run import FrozenRun

TOKENS, SELECTIVE = 10, 0.5
"""Fewest tokens at which a parity feature is active, and least selectivity (3 : 1)."""

GROUPS = ("positions", "parity features", "other features", "embeddings", "errors", "biases")
"""What parts are told apart by; whole heads and MLPs count as other features."""


def selectivity(even: Tensor, odd: Tensor) -> Tensor:
    """(e - o) / (e + o) of features' mean activities at even and odd tokens [F]."""
    return (even - odd) / (even + odd).clamp(min=1e-30)


class ParityCounter:
    """Sums the activities of the features of each site at even and odd tokens."""

    def __init__(self, studied: Studied) -> None:
        self.studied = studied
        self.sums = {
            site: torch.zeros(2, one.features, dtype=torch.float64)
            for site, one in studied.dictionaries.items()
        }
        self.active = {site: torch.zeros_like(one[0]) for site, one in self.sums.items()}
        self.tokens = [0, 0]

    def add(self, run: FrozenRun) -> None:
        """Take a run."""
        for parity in (0, 1):
            self.tokens[parity] += len(range(parity, run.length, 2))
        for at, writer in enumerate(run.writers):
            if writer.kind != "feature":
                continue
            site, units = self.studied.site_of(run, at), writer.main.units.cpu()
            values = writer.main.values.double().cpu()
            for parity in (0, 1):
                present = units[parity::2] >= 0
                own = units[parity::2][present]
                self.sums[site][parity].index_add_(0, own, values[parity::2][present])
                self.active[site] += torch.bincount(own, minlength=len(self.active[site]))

    def signs(self) -> dict[str, Tensor]:
        """By site, of each feature [F] 1 if it is one of even tokens, -1 of odd ones, else 0."""
        signs = {}
        for site, (even, odd) in self.sums.items():
            select = selectivity(even / max(1, self.tokens[0]), odd / max(1, self.tokens[1]))
            firm = (select.abs() >= SELECTIVE) & (self.active[site] >= TOKENS)
            signs[site] = torch.where(firm, select.sign(), 0).long()
        return signs

    def alive(self, site: str) -> int:
        """Features that are ever active."""
        return int((self.active[site] > 0).sum())


def parity_groups(studied: Studied, run: FrozenRun, signs: Mapping[str, Tensor]) -> Tensor:
    """Which of `GROUPS` every part is in [T, C]; their number where there is no part."""
    kinds = {"embed": 3, "position": 0, "error": 4, "bias": 5}
    columns = []
    for at, writer in enumerate(run.writers):
        units = writer.main.units.cpu()
        own = torch.full(units.shape, kinds.get(writer.kind, 2))
        if writer.kind == "feature":
            told = signs[studied.site_of(run, at)][units.clamp(min=0)] != 0
            own = torch.where(told, 1, 2)
        columns.append(own.masked_fill(units < 0, len(GROUPS)))
        for kind in writer.tail_kinds:
            columns.append(torch.full((run.length, 1), kinds[kind]))
    return torch.cat(columns, -1)
