"""Which families of features pass on to which, module by module.

Every active feature of a module, at every token of held-out games, shares one unit of mass among
the parts that it is made of, in proportion to the magnitudes of their contributions; so does the
largest logit at every token. Masses are summed by family on either side. Of a module they sum to
the number of its targets, and the shares that are shown to one.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from harness.analyses.groups import PartGroups
from harness.analyses.reading import (
    FeaturesRead,
    all_features,
    feature_writers,
    features_read,
    logits_read,
)
from harness.analyses.report import Analysis, AnalysisTable, Picture
from harness.analyses.studied import Studied
from harness.tracing.run import FrozenRun

LOGITS = "logits"


def masses(studied: Studied) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """Names of groups, and by module the mass from each group to each [groups, groups].

    Logits are all of one target group, the first.
    """
    groups = PartGroups(studied)
    size = len(groups)
    total: dict[str, Tensor] = {}
    for run, _ in studied.games("summing contributions by family"):
        of_parts = groups.of_parts(run)
        for module, own, read in _reads(run, groups, of_parts):
            shares = _shares(run, read, of_parts, groups)
            total.setdefault(module, torch.zeros(size, size, dtype=torch.float64)).index_add_(
                1, own, shares.T
            )
    return groups.names, total


def _reads(
    run: FrozenRun, groups: PartGroups, of_parts: Tensor
) -> Iterator[tuple[str, Tensor, FeaturesRead]]:
    """Modules, the groups of some of their features [N], and what contributes to these."""
    for at in feature_writers(run):
        rows, columns = all_features(run, at)
        start = 0
        for read in features_read(run, at, rows, columns):
            part = slice(start, start + len(read.rows))
            own = of_parts[rows[part].cpu(), run.offsets[at] + columns[part].cpu()]
            yield run.writers[at].name, own, read
            start += len(read.rows)
    tokens = torch.arange(run.length)
    largest = logits_read(run, tokens, run.frozen.raw.argmax(-1))
    yield LOGITS, torch.zeros(run.length, dtype=torch.long), largest


def _shares(run: FrozenRun, read: FeaturesRead, of_parts: Tensor, groups: PartGroups) -> Tensor:
    """Shares of the magnitudes of all contributions, by group [N, groups]; they sum to one."""
    size = read.parts.abs()
    width = size.shape[-1]
    if size.ndim == 3:
        summed = groups.summed(size.flatten(1), of_parts[:, :width].flatten()[None])
    else:
        summed = groups.summed(size, of_parts[read.rows.cpu(), :width])
    whole: Tensor = summed / summed.sum(1, keepdim=True).clamp(min=1e-30)
    return whole


def analyse(studied: Studied) -> Analysis:
    """A table for each module, its sources as rows, its own families as columns."""
    names, total = masses(studied)
    tables, panels = [], []
    for module, mass in total.items():
        share = mass / mass.sum()
        sources = [at for at in range(len(names)) if share[at].sum() > 0]
        targets = [at for at in range(len(names)) if share[:, at].sum() > 0]
        heads = [LOGITS] if module == LOGITS else [names[at] for at in targets]
        columns = ("from", *heads, *(["all"] if len(heads) > 1 else []))
        rows = []
        for at in sources:
            cells = [float(share[at, to]) for to in targets]
            rows.append((names[at], *cells, *([sum(cells)] if len(heads) > 1 else [])))
        tables.append(
            AnalysisTable(
                f"Into {module}, {round(float(mass.sum())):,} targets",
                columns,
                tuple(rows),
                columns[1:],
            )
        )
        panels.append(
            {
                "title": f"into {module}",
                "rows": [names[at] for at in sources],
                "columns": heads,
                "values": share[sources][:, targets].tolist(),
                "signed": False,
            }
        )
    return Analysis(
        tables,
        (
            f"{studied.choices.sequences} held-out games. Every active feature shares one unit of "
            "mass among all parts that it is made of, by the magnitudes of their contributions.",
        ),
        (Picture("flow", "heat", {"panels": panels}),),
    )
