"""Analyses of dictionaries' features, with names that are read from a report or measured now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.analyses.registry import analysis_of, info_of_analysis
from harness.analyses.studied import AnalysisChoices, Studied
from harness.datasets.concepts import concept_source
from harness.datasets.open import open_data
from harness.errors import HarnessError
from harness.interpretation.study import StudyBudget
from harness.runs.compute.dictionaries import obtain_dictionaries, require_trained
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import Log, obtain_model
from harness.runs.compute.prepare import TEST_SEED
from harness.runs.plan.dictionaries import PlannedDictionaries
from harness.runs.prompts.words import Outputs
from harness.runs.services.analyses.names import feature_names, label_reports
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
    to be trained first, a task without concepts or without the family that is asked for, and what
    the analysis refuses.
    """
    info = info_of_analysis(asked.name)
    if info.several != (len(planned) > 1):
        many = "several dictionaries of one model" if info.several else "one dictionary"
        raise HarnessError(f"analysis {asked.name!r} is of {many}; {len(planned)} are named")
    _refuse_models(planned)
    first = planned[0]
    data = open_data(first.cell.task)
    families = concept_source(data).concept_families
    asked.choices.refuse_unknown_family(families)
    if not asked.train:
        for one in planned:
            require_trained(one, models)
    use_runtime(first.cell.runtime)
    model = obtain_model(first.cell, data, models, log)
    reports = label_reports(asked.labels, planned)
    studied = []
    for one in planned:
        dictionaries = obtain_dictionaries(one, model, models, log)
        names = feature_names(
            one, dictionaries, model, data, families, asked.budget, asked.loose, reports
        )
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
