"""What features of dictionaries stand for, beside neurons, random ones and probes: plain data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.concepts import (
    ConceptFamily,
    columns_of,
    concept_names,
    concept_source,
)
from harness.datasets.open import open_data
from harness.datasets.pairs import TaskData
from harness.datasets.tokenizers import Tokenizer
from harness.dictionaries.dictionary import DictionarySet
from harness.interpretation.asked import named_features, named_sites
from harness.interpretation.examples import TokenExample, examples_of
from harness.interpretation.names import names_of_features
from harness.interpretation.probes import probe_scores
from harness.interpretation.study import SeenTokens, StudyBudget, SubjectStudy, study
from harness.interpretation.subjects import (
    StudySubject,
    dictionary_subjects,
    neuron_subjects,
    random_subjects,
)
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer
from harness.runs.compute.dictionaries import (
    obtain_dictionaries,
    require_trained,
    stated_sizes,
)
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import Log, obtain_model
from harness.runs.plan.dictionaries import PlannedDictionaries
from harness.runs.prompts.words import token_text
from harness.runs.store.models import ModelStore
from harness.spec.types import TrainModel

POSITIONS = "positions"


@dataclass(frozen=True)
class FeatureRequest:
    """What to report. `baselines`: also neurons, random directions and probes. `panels`: features
    whose panels are given for each site, those with the best confirmed labels; `sites`: only these,
    all if empty. `train`: train dictionaries that are not there yet. `features`: names of others
    whose panels are given too, such as m1.357, labelled or not.
    """

    budget: StudyBudget
    baselines: bool = True
    panels: int = 0
    sites: tuple[str, ...] = ()
    train: bool = False
    features: tuple[str, ...] = ()


def described_features(
    planned: PlannedDictionaries, asked: FeatureRequest, models: ModelStore, log: Log
) -> dict[str, Any]:
    """Families of features by site, coverage, rebuilt boards, and panels.

    Raises `HarnessError` for dictionaries that would have to be trained first, an unknown site or
    feature, or a task without concepts. What the specs show to be unknown is refused before
    anything is trained.
    """
    if not asked.train:
        require_trained(planned, models)
    use_runtime(planned.cell.runtime)
    data = open_data(planned.cell.task)
    source = concept_source(data)
    if isinstance(planned.cell.model, TrainModel):
        # Sites do not depend on how long prompts are, nor on what they are made of.
        shape = TransformerConfig.from_architecture(planned.cell.model.architecture, 1, 1)
        _refuse_unknown(planned, asked, shape)
    model = obtain_model(planned.cell, data, models, log)
    _refuse_unknown(planned, asked, model.config)
    dictionaries = _chosen(obtain_dictionaries(planned, model, models, log), asked.sites)
    named = named_features(
        asked.features, {site: one.features for site, one in dictionaries.items()}
    )
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
        "panels": _panels(studies, seen, data, asked.panels, named),
    }


def _refuse_unknown(
    planned: PlannedDictionaries, asked: FeatureRequest, config: TransformerConfig
) -> None:
    """Refuse sites and features that no dictionary of the spec will have (`HarnessError`)."""
    if sizes := stated_sizes(planned, config):
        sites = named_sites(list(sizes), asked.sites)
        named_features(asked.features, {site: sizes[site] for site in sites})


def _chosen(dictionaries: DictionarySet, sites: Sequence[str]) -> DictionarySet:
    """The dictionaries of some sites, by their name or without its `.out`; all if none is named."""
    kept = {site: dictionaries[site] for site in named_sites(list(dictionaries), sites)}
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


# ---------------------------------------------------------------- panels
def _panels(
    studies: Sequence[SubjectStudy],
    seen: SeenTokens,
    data: TaskData,
    most: int,
    named: Sequence[tuple[str, int]],
) -> list[dict[str, Any]]:
    """The panels of the best labelled features of each site, then of those that were named."""
    by_site = {one.subject.site: one for one in studies}
    wanted = [(one.subject.site, feature) for one in studies for feature in _best(one, most)]
    wanted = list(dict.fromkeys([*wanted, *named]))
    families, base = concept_source(data).concept_families, seen.base if wanted else np.zeros(0)
    names = names_of_features(
        families,
        {site: one.labels for site, one in by_site.items()},
        {site: one.leanings for site, one in by_site.items()},
        least=0.0,
    )
    examples = examples_of(data, seen, [(by_site[site].strongest, at) for site, at in wanted])
    return [
        {
            **panel_of(by_site[site], feature, seen, base, families),
            "label": names.label(site, feature),
            "name": names.text(site, feature),
            "asked": (site, feature) in named,
            "examples": [_example(one, data.tokenizer, families) for one in shown],
        }
        for (site, feature), shown in zip(wanted, examples, strict=True)
    ]


def _best(one: SubjectStudy, most: int) -> list[int]:
    """The features of the best confirmed labels."""
    return [label.feature for label in sorted(one.confirmed, key=lambda x: -x.f1)[:most]]


def _example(
    one: TokenExample, tokenizer: Tokenizer, families: tuple[ConceptFamily, ...]
) -> dict[str, Any]:
    """An example in words: the tokens of its sequence, and by family the concepts true there."""
    columns = columns_of(families)
    return {
        "strength": one.strength,
        "position": one.position,
        "tokens": [token_text(tokenizer, token) for token in one.tokens.tolist()],
        "concepts": {
            family.name: list(compress(family.concepts, one.true[columns[family.name]]))
            for family in families
        },
    }


def panel_of(
    one: SubjectStudy,
    feature: int,
    seen: SeenTokens,
    base: NDArray[np.float64],
    families: tuple[ConceptFamily, ...],
) -> dict[str, Any]:
    """A feature's panel: of each concept its share of the strongest tokens, and of all tokens."""
    strengths, tokens = one.strongest.of(feature)
    n, columns = len(tokens), columns_of(families)
    share = seen.at(tokens).mean(0) if n else np.zeros(seen.concepts)
    positions = np.bincount(seen.positions[tokens].astype(np.int64)) if n else np.zeros(0, int)
    return {
        "site": one.subject.site,
        "feature": feature,
        "tokens": n,
        "mean_strength": float(strengths.mean()) if n else 0.0,
        "active": float(one.strongest.active[feature]) / max(1, one.strongest.seen),
        "share": {name: share[part].tolist() for name, part in columns.items()},
        "base": {name: base[part].tolist() for name, part in columns.items()},
        POSITIONS: positions.tolist(),
    }
