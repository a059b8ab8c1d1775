"""How much of the directions that probes find a few features explain.

Of every concept, and the stream after every module: the direction in which the stream differs where
the concept is true (`difference`: true less false, on average), and that of a least-squares probe
(`probe`). Explained is the share of a direction's squared length that lies in the span of eight
directions of features, chosen one after the other (orthogonal matching pursuit): from features of
one family, from all that were written by then, and from as many random directions as the family
has, which says what eight of that many explain anyway.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.analyses.report import Analysis, AnalysisTable, Value
from harness.analyses.studied import Studied
from harness.datasets.concepts import columns_of, concept_names
from harness.errors import HarnessError
from harness.interpretation.probes import ProbeFit
from harness.interpretation.tokens import training_chunks
from harness.models.sites import sites

DIRECTIONS = 8
_DEPENDENT = 1e-8
"""Length that a unit vector has left when it lies in the span of others."""

FEWEST = 100
"""Fewest tokens at which a concept is true."""


def explained(wanted: Tensor, directions: Tensor, most: int = DIRECTIONS) -> Tensor:
    """Share of the squared length of each of [N, D] in the span of at most `most` of [F, D]."""
    unit = directions.double() / directions.double().norm(dim=1, keepdim=True).clamp(min=1e-30)
    wanted = wanted.double()
    length = wanted.square().sum(1).clamp(min=1e-30)
    rest = wanted / length.sqrt()[:, None]
    basis = rest.new_zeros(len(rest), 0, rest.shape[1])
    left = torch.ones(len(rest), len(unit), dtype=torch.bool)
    for _ in range(min(most, *unit.shape)):
        best = (rest @ unit.T).abs().masked_fill(~left, -1.0).argmax(1, keepdim=True)
        left.scatter_(1, best, False)
        chosen = unit[best[:, 0]]
        fresh = chosen - torch.einsum(
            "nk,nkd->nd", torch.einsum("nkd,nd->nk", basis, chosen), basis
        )
        size = fresh.norm(dim=1, keepdim=True)
        fresh = torch.where(size > _DEPENDENT, fresh / size.clamp(min=_DEPENDENT), 0.0)
        basis = torch.cat([basis, fresh[:, None]], 1)
        rest = rest - (rest * fresh).sum(1, keepdim=True) * fresh
    return 1 - rest.square().sum(1)


def analyse(studied: Studied) -> Analysis:
    """A row for each family of concepts and stream; features of `--family`, by default the family
    of which most features are confirmed.
    """
    family = studied.choices.family or _largest_family(studied)
    kinds = ("a.stream", "m.stream")
    names = [one.name for one in sites(studied.model.config) if one.kind in kinds]
    fits = _fits(studied, names)
    rows: list[tuple[Value, ...]] = []
    for site in names:
        own, every = _directions(studied, site, family)
        if not len(own):
            continue
        random = _random(len(own), studied.model.config.d_model)
        fit = fits[site]
        weight = fit.probe().weight.T
        differences = fit.differences()
        common = fit.y >= FEWEST
        for concepts, part in columns_of(studied.features.families).items():
            chosen = common[part]
            if not chosen.any():
                continue
            numbers: list[float] = []
            for wanted in (differences[part][chosen], weight[part][chosen]):
                numbers += [float(explained(wanted, some).mean()) for some in (own, every, random)]
            rows.append((concepts, site, int(chosen.sum()), len(own), len(every), *numbers))
    if not rows:
        raise HarnessError(f"no feature is named after a concept of family {family!r}")
    heads = (f"by {family}", "by all", "by random")
    columns = (
        *("concepts", "stream", "n", f"of {family}", "of all"),
        *(f"difference {head}" for head in heads),
        *(f"probe {head}" for head in heads),
    )
    table = AnalysisTable(
        f"Share of directions that {DIRECTIONS} features explain", columns, tuple(rows), columns[5:]
    )
    note = f"Features of family {family!r} beside all that were written by then."
    return Analysis([table], (note,))


def _largest_family(studied: Studied) -> str:
    counts: dict[str, int] = {}
    for site, named in studied.features.by_site.items():
        for unit, name in named.items():
            if name.confirmed:
                own = studied.features.family(site, unit)
                counts[own] = counts.get(own, 0) + 1
    if not counts:
        raise HarnessError("no feature has a confirmed label; choose a --family")
    return max(counts, key=lambda name: counts[name])


def _fits(studied: Studied, names: list[str]) -> dict[str, ProbeFit]:
    """What probes of the streams are fitted on."""
    width = len(concept_names(studied.features.families))
    fits = {name: ProbeFit(studied.model.config.d_model, width) for name in names}
    with torch.no_grad():
        for chunk in training_chunks(studied.data, studied.choices.label_tokens):
            truth = torch.from_numpy(chunk.concepts())
            for name, x in chunk.held(studied.model, names).items():
                fits[name].add(x, truth)
    return fits


def _directions(studied: Studied, stream: str, family: str) -> tuple[Tensor, Tensor]:
    """Of the features of a family, and of all, that are written before a stream: [F, D] each."""
    order = [one.name for one in sites(studied.model.config)]
    own, every = [], []
    for site, one in studied.dictionaries.items():
        if not site.endswith(".out") or order.index(site) > order.index(stream):
            continue
        decoder = one.decoder.detach().double().cpu()
        every.append(decoder)
        named = studied.features.by_site.get(site, {})
        own += [decoder[unit] for unit in named if studied.features.family(site, unit) == family]
    width = studied.model.config.d_model
    nothing = torch.zeros(0, width, dtype=torch.float64)
    return torch.stack(own) if own else nothing, torch.cat(every) if every else nothing


def _random(n: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, width, generator=generator, dtype=torch.float64)
