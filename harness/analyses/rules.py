"""Whether what makes an output is about cells that the output depends on by the task's rules.

A move of Othello is legal by what lies on the lines through its cell, and by nothing else. Of the
total influence of all features on a token's largest output, along all paths, the mass of features
that are named after a cell is counted: of the output's own cell, of another cell that its concept
depends on (`ConceptFamily.depends_on`), or of one elsewhere. Beside it stands where the same mass
would lie for the other outputs that are right at the same token (`of others`): cells that many
outputs depend on are hit by chance. Every target has one unit of mass, shared among all features by
the magnitude of their influence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.analyses.groups import PartGroups
from harness.analyses.reading import feature_writers
from harness.analyses.report import Analysis, AnalysisTable
from harness.analyses.studied import Studied
from harness.datasets.concepts import ConceptFamily
from harness.errors import HarnessError
from harness.tracing.influence import total_influence
from harness.tracing.run import FrozenRun
from harness.tracing.target import single_logit


@dataclass(frozen=True)
class OutputRules:
    """What the outputs of a family depend on, K cells in all.

    `columns` [V]: the concept of each output, -1 without one; `own` [V]: its cell; `cells` bool
    [V, K]: those that its concept depends on, without its own.
    """

    columns: Tensor
    own: Tensor
    cells: Tensor

    @classmethod
    def of(cls, families: tuple[ConceptFamily, ...], outputs: int) -> OutputRules:
        """Raises `HarnessError` where no family says what its outputs depend on."""
        start = 0
        for family in families:
            if family.outputs and family.depends_on and family.cells:
                break
            start += len(family.concepts)
        else:
            raise HarnessError(
                "rules are those of a family of concepts that says which cells its outputs depend "
                "on, and the task has none (`ConceptFamily.depends_on` in "
                "harness/datasets/concepts.py)"
            )
        size = 1 + max(max(one.cells) for one in families if one.cells)
        columns = torch.full((outputs,), -1)
        own = torch.full((outputs,), -1)
        cells = torch.zeros(outputs, size, dtype=torch.bool)
        for place, output in enumerate(family.outputs):
            columns[output] = start + place
            own[output] = family.cells[place]
            cells[output, list(family.depends_on[place])] = True
            cells[output, family.cells[place]] = False
        return cls(columns, own, cells)

    def right(self, truth: Tensor) -> Tensor:
        """Which outputs are right where concepts are true [C]: bool [V]."""
        return (self.columns >= 0) & truth[self.columns.clamp(min=0)]

    def reached(self, outputs: Tensor) -> Tensor:
        """Share of some outputs (bool [V]) that are about each cell or depend on it [K]."""
        cells = self.cells[outputs].clone()
        cells[torch.arange(len(cells)), self.own[outputs]] = True
        return cells.double().mean(0)


def cells_of_concepts(families: tuple[ConceptFamily, ...]) -> Tensor:
    """The cell of each concept [C], -1 of those that are about none."""
    cells: list[int] = []
    for family in families:
        cells += family.cells or [-1] * len(family.concepts)
    return torch.tensor(cells)


KINDS = ("own cell", "cells it depends on", "elsewhere", "of others")
"""Where mass lies: the first three are all of it, `of others` overlaps them."""


@dataclass
class RuledMass:
    """Mass of `n` targets, summed. `modules`: their W names.

    `named` [4, W, families]: of features named after a cell, by `KINDS`; `every` [W]: of all.
    """

    modules: tuple[str, ...]
    named: Tensor
    every: Tensor
    n: int = 0


class _Places:
    """Where each part of a run belongs: module [C], and family and cell [T, C]; -1 for none."""

    def __init__(self, studied: Studied, groups: PartGroups, run: FrozenRun) -> None:
        families = studied.features.families
        sizes = torch.tensor([len(one.concepts) for one in families])
        family = torch.repeat_interleave(torch.arange(len(families)), sizes)
        concepts = groups.concepts_of_parts(run)
        self.family = torch.where(concepts >= 0, family[concepts.clamp(min=0)], -1)
        cell = cells_of_concepts(families)
        self.cell = torch.where(concepts >= 0, cell[concepts.clamp(min=0)], -1)
        self.module = torch.full((concepts.shape[1],), -1)
        for number, at in enumerate(feature_writers(run)):
            self.module[run.offsets[at] : run.offsets[at] + run.writers[at].own] = number

    def by_cell(self, mass: Tensor, shape: tuple[int, int, int]) -> Tensor:
        """Mass [T, C] of features that are named after a cell, summed: [W, families, cells]."""
        out = torch.zeros(shape, dtype=torch.float64)
        on = (self.cell >= 0) & (self.module >= 0)
        module = self.module.expand_as(self.cell)[on]
        return out.index_put_((module, self.family[on], self.cell[on]), mass[on], accumulate=True)


def ruled_mass(studied: Studied) -> RuledMass:
    """Mass over held-out games, of largest outputs that are right where others are right too.

    Raises `HarnessError` without any.
    """
    families = studied.features.families
    rules = OutputRules.of(families, studied.model.config.n_outputs)
    groups, total = PartGroups(studied), None
    for run, truth in studied.games("tracing outputs"):
        places, writers = _Places(studied, groups, run), feature_writers(run)
        shape = (len(writers), len(families), rules.cells.shape[1])
        if total is None:
            named = torch.zeros(len(KINDS), *shape[:2], dtype=torch.float64)
            names = tuple(run.writers[at].name for at in writers)
            total = RuledMass(names, named, torch.zeros(shape[0], dtype=torch.float64))
        for token in range(run.length):
            output = int(run.frozen.raw[token].argmax())
            others = rules.right(torch.from_numpy(truth[token]))
            if not others[output] or int(others.sum()) < 2:
                continue
            others[output] = False
            influence = total_influence(run, single_logit(run, "logit", output, token))
            mass = influence.parts.abs().double().cpu() * (places.module >= 0)
            mass /= mass.sum()
            by_cell = places.by_cell(mass, shape)
            own, depends = by_cell[..., rules.own[output]], by_cell @ rules.cells[output].double()
            elsewhere = by_cell.sum(-1) - own - depends
            total.named += torch.stack([own, depends, elsewhere, by_cell @ rules.reached(others)])
            features = places.module >= 0
            total.every.index_add_(0, places.module[features], mass.sum(0)[features])
            total.n += 1
    if total is None or not total.n:
        raise HarnessError("no token has a right largest output beside others that are right")
    return total


def analyse(studied: Studied) -> Analysis:
    """A row for each module and one for each family; shares of the mass of named features."""
    total = ruled_mass(studied)
    named, every = total.named / total.n, total.every / total.n
    by_module, by_family = named.sum(2), named.sum(1)
    modules = [
        (name, float(every[at]), float(by_module[:3, at].sum() / every[at]), *_shares(column))
        for at, (name, column) in enumerate(zip(total.modules, by_module.T, strict=True))
    ]
    whole = by_module.sum(1)
    everything = float(every.sum())
    modules.append(("all", everything, float(whole[:3].sum()) / everything, *_shares(whole)))
    families = [
        (family.name, float(column[:3].sum() / whole[:3].sum()), *_shares(column))
        for family, column in zip(studied.features.families, by_family.T, strict=True)
        if float(column[:3].sum()) > 0
    ]
    own, depends, _, others = _shares(whole)
    note = (
        f"{studied.choices.sequences} held-out games, {total.n:,} outputs. Of the mass of features "
        f"that are named after a cell {(own or 0) + (depends or 0):.0%} is on the output's cell or "
        f"on one that it depends on; {others or 0:.0%} on those of other right outputs."
    )
    title = "Features' total influence on outputs"
    shown = ("of all mass", "named", *KINDS), ("of named mass", *KINDS)
    return Analysis(
        [
            AnalysisTable(f"{title}, by module", ("module", *shown[0]), tuple(modules), shown[0]),
            AnalysisTable(f"{title}, by family", ("family", *shown[1]), tuple(families), shown[1]),
        ],
        (note,),
    )


def _shares(kinds: Tensor) -> list[float | None]:
    """Masses by kind [4] as shares of those of the first three; None where there is no mass."""
    whole = float(kinds[:3].sum())
    return [float(one) / whole if whole else None for one in kinds]
