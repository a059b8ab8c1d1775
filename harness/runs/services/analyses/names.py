"""What features are called: names from reports of `harness features`, or labels chosen now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.datasets.concepts import ConceptFamily, concept_names
from harness.datasets.pairs import TaskData
from harness.dictionaries.dictionary import DictionarySet
from harness.errors import HarnessError, NotFound
from harness.interpretation.labels import Label, Leaning
from harness.interpretation.names import FeatureNames, names_of_features
from harness.interpretation.study import StudyBudget, study
from harness.interpretation.subjects import dictionary_subjects
from harness.models.transformer import Transformer
from harness.runs.plan.dictionaries import PlannedDictionaries


def feature_names(
    planned: PlannedDictionaries,
    dictionaries: DictionarySet,
    model: Transformer,
    data: TaskData,
    families: tuple[ConceptFamily, ...],
    budget: StudyBudget,
    loose: float,
    reports: Mapping[str, Mapping[str, Any]],
) -> FeatureNames:
    """Those of the dictionaries' report, if there is one, else labels chosen on a budget."""
    if planned.id in reports:
        return names_in_report(reports[planned.id], families, loose)
    studies = study(model, data, dictionary_subjects(dictionaries), budget).subjects
    return names_of_features(
        families,
        {one.subject.site: one.labels for one in studies},
        {one.subject.site: one.leanings for one in studies},
        loose,
    )


def label_reports(
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


def names_in_report(
    report: Mapping[str, Any], families: tuple[ConceptFamily, ...], loose: float
) -> FeatureNames:
    """The names of a report of `harness features`, whose concepts are written by name.

    `loose`: least F1 of a name that is no confirmed label.
    """
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
