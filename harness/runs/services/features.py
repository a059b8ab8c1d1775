"""What features of dictionaries stand for, beside neurons, random ones and probes: plain data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.concepts import (
    ConceptFamily,
    ConceptSource,
    columns_of,
    concept_names,
    concept_source,
)
from harness.datasets.open import open_data
from harness.datasets.pairs import TaskData
from harness.dictionaries.dictionary import DictionarySet
from harness.errors import HarnessError
from harness.interpretation.probes import probe_scores
from harness.interpretation.study import SeenTokens, StudyBudget, SubjectStudy, study
from harness.interpretation.subjects import (
    StudySubject,
    dictionary_subjects,
    neuron_subjects,
    random_subjects,
)
from harness.models.transformer import Transformer
from harness.runs.compute.dictionaries import obtain_dictionaries, require_trained
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import Log, obtain_model
from harness.runs.plan.dictionaries import PlannedDictionaries
from harness.runs.store.models import ModelStore

POSITIONS = "positions"


@dataclass(frozen=True)
class FeatureRequest:
    """What to report. `baselines`: also neurons, random directions and probes. `panels`: features
    whose panels are given for each site, those with the best confirmed labels; `sites`: only these,
    all if empty. `train`: train dictionaries that are not there yet.
    """

    budget: StudyBudget
    baselines: bool = True
    panels: int = 0
    sites: tuple[str, ...] = ()
    train: bool = False


def described_features(
    planned: PlannedDictionaries, asked: FeatureRequest, models: ModelStore, log: Log
) -> dict[str, Any]:
    """Families of features by site, coverage, rebuilt boards, and panels.

    Raises `HarnessError` for dictionaries that would have to be trained first, an unknown site, or
    a task without concepts.
    """
    if not asked.train:
        require_trained(planned, models)
    use_runtime(planned.cell.runtime)
    data = open_data(planned.cell.task)
    source = concept_source(data)
    model = obtain_model(planned.cell, data, models, log)
    dictionaries = _chosen(obtain_dictionaries(planned, model, models, log), asked.sites)
    studies, seen, together = study(model, data, dictionary_subjects(dictionaries), asked.budget)
    boards = [{"kind": "features", "rebuilt": together}]
    subjects = [_record(one, source.concept_families) for one in studies]
    probes = []
    if asked.baselines:
        for others in _baselines(model, dictionaries, studies):
            compared, _, together = study(model, data, others, asked.budget)
            boards.append({"kind": others[0].kind, "rebuilt": together})
            subjects += [_record(one, source.concept_families) for one in compared]
        probes = _probes(model, data, asked.budget)
    return {
        "schema_version": 1,
        "dictionary": planned.name,
        "dictionary_id": planned.id,
        "task": planned.cell.task.spec.name,
        "model": planned.cell.model_name,
        "model_id": planned.cell.model_id,
        "budget": asdict(asked.budget),
        "tokens": len(seen.packed),
        "board_size": source.board_size,
        "families": [asdict(family) for family in source.concept_families],
        "subjects": subjects,
        "together": boards,
        "probes": probes,
        "panels": _panels(studies, seen, source, asked.panels),
    }


def _chosen(dictionaries: DictionarySet, sites: Sequence[str]) -> DictionarySet:
    """The dictionaries of some sites, by their name or without its `.out`; all if none is named."""
    if not sites:
        return dictionaries
    short = {site.removesuffix(".out"): site for site in dictionaries}
    if unknown := [one for one in sites if one not in dictionaries and one not in short]:
        raise HarnessError(
            f"no dictionary of site {unknown[0]!r}; there are {', '.join(dictionaries)}"
        )
    wanted = {short.get(one, one) for one in sites}
    kept = {site: one for site, one in dictionaries.items() if site in wanted}
    return DictionarySet(kept, dictionaries.source)


def _baselines(
    model: Transformer, dictionaries: DictionarySet, studies: Sequence[SubjectStudy]
) -> Iterable[list[StudySubject]]:
    """Neurons of every MLP, then random directions, as many active as each dictionary has."""
    yield neuron_subjects(model.config)
    active = {
        one.subject.site: float(one.strongest.active.sum()) / one.strongest.seen for one in studies
    }
    yield random_subjects(dictionaries, active)


def _probes(model: Transformer, data: TaskData, budget: StudyBudget) -> list[dict[str, Any]]:
    columns = columns_of(concept_source(data).concept_families)
    scores = probe_scores(model, data, budget.label_tokens, budget.held_out)
    return [
        {"site": site, "f1": {name: score.f1(part) for name, part in columns.items()}}
        for site, score in scores.items()
    ]


# ---------------------------------------------------------------- records
def _record(one: SubjectStudy, families: Sequence[ConceptFamily]) -> dict[str, Any]:
    names = concept_names(tuple(families))
    by_family = dict.fromkeys(columns_of(tuple(families)), 0)
    for label in one.confirmed:
        by_family[_family(label.concept, families)] += 1
    strongest = one.strongest
    return {
        "name": one.subject.name,
        "kind": one.subject.kind,
        "site": one.subject.site,
        "features": one.subject.size,
        "alive": int((strongest.active > 0).sum()),
        "active": float(strongest.active.sum()) / max(1, strongest.seen),
        "precise": one.precise,
        "chosen": len(one.labels),
        "confirmed": len(one.confirmed),
        "by_family": by_family,
        "coverage": one.coverage,
        "rebuilt": one.rebuilt,
        "labels": [{**asdict(label), "concept": names[label.concept]} for label in one.labels],
        "leanings": [{**asdict(each), "concept": names[each.concept]} for each in one.leanings],
    }


def _family(concept: int, families: Sequence[ConceptFamily]) -> str:
    columns = columns_of(tuple(families))
    return next(name for name, part in columns.items() if part.start <= concept < part.stop)


def _panels(
    studies: Sequence[SubjectStudy], seen: SeenTokens, source: ConceptSource, most: int
) -> list[dict[str, Any]]:
    """What is true at the strongest tokens of the best labelled features of each site."""
    if not most:
        return []
    names, base = concept_names(source.concept_families), seen.base
    panels = []
    for one in studies:
        best = sorted(one.confirmed, key=lambda label: -label.f1)[:most]
        for label in best:
            panel = panel_of(one, label.feature, seen, base, source)
            panels.append({**panel, "label": names[label.concept]})
    return panels


def panel_of(
    one: SubjectStudy,
    feature: int,
    seen: SeenTokens,
    base: NDArray[np.float64],
    source: ConceptSource,
) -> dict[str, Any]:
    """A feature's panel: of each concept its share of the strongest tokens, and of all tokens."""
    n = int(one.strongest.counts[feature])
    tokens = one.strongest.tokens[feature, :n]
    share = seen.at(tokens).mean(0) if n else np.zeros(seen.concepts)
    positions = np.bincount(seen.positions[tokens].astype(np.int64)) if n else np.zeros(0, int)
    columns = columns_of(source.concept_families)
    return {
        "site": one.subject.site,
        "feature": feature,
        "tokens": n,
        "mean_strength": float(one.strongest.strengths[feature, :n].mean()) if n else 0.0,
        "active": float(one.strongest.active[feature]) / max(1, one.strongest.seen),
        "share": {name: share[part].tolist() for name, part in columns.items()},
        "base": {name: base[part].tolist() for name, part in columns.items()},
        POSITIONS: positions.tolist(),
    }
