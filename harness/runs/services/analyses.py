"""Analyses of dictionaries' features, with names that are read from a report or measured now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.analyses.registry import analysis_of, info_of_analysis
from harness.analyses.studied import AnalysisChoices, Studied
from harness.datasets.concepts import ConceptFamily, concept_names, concept_source
from harness.datasets.open import open_data
from harness.datasets.pairs import TaskData
from harness.dictionaries.dictionary import DictionarySet
from harness.errors import HarnessError, NotFound
from harness.interpretation.labels import Label, Leaning
from harness.interpretation.names import FeatureNames, names_of_features
from harness.interpretation.study import StudyBudget, study
from harness.interpretation.subjects import dictionary_subjects
from harness.models.transformer import Transformer
from harness.runs.compute.dictionaries import obtain_dictionaries, require_trained
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import Log, obtain_model
from harness.runs.compute.prepare import TEST_SEED
from harness.runs.plan.dictionaries import PlannedDictionaries
from harness.runs.services.look import Outputs
from harness.runs.store.models import ModelStore


@dataclass(frozen=True)
class AnalysisRequest:
    """Which analysis, of which dictionaries.

    `labels`: reports of `harness features` that name features; without one of a dictionary its
    features are named now, on `budget`. `loose`: F1 from which a feature without a confirmed label
    goes by the concept that it comes closest to. `train`: train what is not there yet.
    """

    name: str
    choices: AnalysisChoices
    budget: StudyBudget
    labels: tuple[Path, ...] = ()
    loose: float = 0.5
    train: bool = False


def analysed(
    planned: Sequence[PlannedDictionaries],
    asked: AnalysisRequest,
    models: ModelStore,
    log: Log,
) -> dict[str, Any]:
    """The analysis as plain data.

    Raises `HarnessError` for an unknown analysis, dictionaries of several models or that would have
    to be trained first, a task without concepts, and what the analysis refuses.
    """
    info = info_of_analysis(asked.name)
    if info.several != (len(planned) > 1):
        many = "several dictionaries of one model" if info.several else "one dictionary"
        raise HarnessError(f"analysis {asked.name!r} is of {many}; {len(planned)} are named")
    _refuse_models(planned)
    if not asked.train:
        for one in planned:
            require_trained(one, models)
    first = planned[0]
    use_runtime(first.cell.runtime)
    data = open_data(first.cell.task)
    families = concept_source(data).concept_families
    model = obtain_model(first.cell, data, models, log)
    reports = _reports(asked.labels, planned)
    studied = []
    for one in planned:
        dictionaries = obtain_dictionaries(one, model, models, log)
        names = _names(one, dictionaries, model, data, families, asked, reports)
        studied.append((dictionaries, names))
    task = first.cell.task.spec
    outputs = Outputs(data.tokenizer, task.answers)
    subject = Studied(
        model=model,
        name=first.name,
        dictionaries=studied[0][0],
        features=studied[0][1],
        data=data,
        prompts=data.pairs("test", task.evaluation.test_pairs, TEST_SEED, at_most=True),
        outputs=[outputs.name(one) for one in range(model.config.n_outputs)],
        choices=asked.choices,
        others={one.name: pair for one, pair in zip(planned[1:], studied[1:], strict=True)},
    )
    analysis = analysis_of(asked.name)(subject)
    return {
        "schema_version": 1,
        "analysis": asked.name,
        "title": info.title,
        "dictionaries": [{"name": one.name, "id": one.id} for one in planned],
        "task": task.name,
        "model": first.cell.model_name,
        "model_id": first.cell.model_id,
        "choices": asdict(asked.choices),
        "named": {
            "from": [str(path) for path in asked.labels],
            "budget": asdict(asked.budget),
            "loose": asked.loose,
            "confirmed": sum(
                name.confirmed
                for site in subject.features.by_site.values()
                for name in site.values()
            ),
            "in_all": sum(map(len, subject.features.by_site.values())),
            "features": sum(one.features for one in subject.dictionaries.values()),
        },
        "notes": list(analysis.notes),
        "tables": [table.data() for table in analysis.tables],
        "pictures": [{"name": one.name, "kind": one.kind, **one.data} for one in analysis.pictures],
        "data": analysis.data,
    }


def _refuse_models(planned: Sequence[PlannedDictionaries]) -> None:
    for one in planned[1:]:
        if one.cell.model_id != planned[0].cell.model_id:
            raise HarnessError(
                f"dictionaries {planned[0].name} and {one.name} are of two models, "
                f"{planned[0].cell.model_name} and {one.cell.model_name}"
            )


# ---------------------------------------------------------------- names of features
def _names(
    planned: PlannedDictionaries,
    dictionaries: DictionarySet,
    model: Transformer,
    data: TaskData,
    families: tuple[ConceptFamily, ...],
    asked: AnalysisRequest,
    reports: Mapping[str, Mapping[str, Any]],
) -> FeatureNames:
    if planned.id in reports:
        return _read(reports[planned.id], families, asked.loose)
    studies, _ = study(model, data, dictionary_subjects(dictionaries), asked.budget)
    return names_of_features(
        families,
        {one.subject.site: one.labels for one in studies},
        {one.subject.site: one.leanings for one in studies},
        asked.loose,
    )


def _reports(
    paths: Sequence[Path], planned: Sequence[PlannedDictionaries]
) -> dict[str, Mapping[str, Any]]:
    """Reports by the id of their dictionaries. Raises `HarnessError` for others' and no reports."""
    reports: dict[str, Mapping[str, Any]] = {}
    ids = {one.id: one.name for one in planned}
    for path in paths:
        file = path / "features.json" if path.is_dir() else path
        if not file.is_file():
            raise NotFound(f"{file} is not there; `harness features` with --output writes it")
        try:
            report = json.loads(file.read_text(encoding="utf-8"))
            own = report["dictionary_id"]
        except (ValueError, KeyError, TypeError):
            raise HarnessError(f"{file} is no report of `harness features`") from None
        if own not in ids:
            raise HarnessError(
                f"{file} names the features of {report.get('dictionary')} [{own[:12]}], not of "
                f"{' or '.join(f'{name} [{one[:12]}]' for one, name in ids.items())}; write it anew"
            )
        reports[own] = report
    return reports


def _read(
    report: Mapping[str, Any], families: tuple[ConceptFamily, ...], loose: float
) -> FeatureNames:
    """The names of a report, whose concepts are written by name."""
    columns = {name: at for at, name in enumerate(concept_names(families))}
    own = [one for one in report["subjects"] if one["kind"] == "features"]
    labels = {
        one["site"]: [Label(**{**x, "concept": columns[x["concept"]]}) for x in one["labels"]]
        for one in own
    }
    leanings = {
        one["site"]: [Leaning(**{**x, "concept": columns[x["concept"]]}) for x in one["leanings"]]
        for one in own
    }
    return names_of_features(families, labels, leanings, loose)
