"""Dictionaries of a spec, obtained and measured on held-out prompts: as plain JSON data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.datasets.open import open_data
from harness.dictionaries.files.saelens import hook_of_site, write_saelens
from harness.dictionaries.measure import FREQUENCIES, DictionaryMeasures, measure
from harness.runs.compute.dictionaries import obtain_dictionaries, require_trained
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import Log, obtain_model
from harness.runs.compute.prepare import TEST_SEED
from harness.runs.plan.dictionaries import PlannedDictionaries
from harness.runs.store.models import ModelStore


def measured_dictionaries(
    planned: PlannedDictionaries, pairs: int, models: ModelStore, log: Log, *, train: bool
) -> dict[str, Any]:
    """Measures on at most `pairs` test prompts of the task.

    Raises `HarnessError` if dictionaries would have to be trained first, unless `train`.
    """
    if not train:
        require_trained(planned, models)
    use_runtime(planned.cell.runtime)
    data = open_data(planned.cell.task)
    drawn = data.pairs("test", pairs, TEST_SEED, at_most=True)
    model = obtain_model(planned.cell, data, models, log)
    dictionaries = obtain_dictionaries(planned, model, models, log)
    return {
        "schema_version": 1,
        "dictionary": planned.name,
        "dictionary_id": planned.id,
        "task": planned.cell.task.spec.name,
        "model": planned.cell.model_name,
        "model_id": planned.cell.model_id,
        "split": "test",
        "frequency_edges": list(FREQUENCIES),
        **_record(measure(model, dictionaries, drawn)),
    }


def _record(measures: DictionaryMeasures) -> dict[str, Any]:
    """The measures, where `model` is not the model's name."""
    record = measures.record()
    return {"model_behaviour": record.pop("model"), **record}


def export_saelens(
    planned: PlannedDictionaries, models: ModelStore, log: Log, folder: Path
) -> list[Path]:
    """Write the dictionaries in SAELens' form, each into a folder below; returns these.

    Raises `HarnessError`, before anything is written, for a site that SAELens has no name of.
    """
    data = open_data(planned.cell.task)
    model = obtain_model(planned.cell, data, models, log)
    places = []
    dictionaries = obtain_dictionaries(planned, model, models, log)
    for site in dictionaries:
        hook_of_site(site)
    for site, one in dictionaries.items():
        place = folder / site
        place.mkdir(parents=True)
        write_saelens(site, one, place, model=planned.cell.model_name)
        places.append(place)
    return places
