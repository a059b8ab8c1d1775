"""Dictionaries of a spec, obtained and measured on held-out prompts: as plain JSON data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.datasets.open import open_data
from harness.datasets.pairs import TrainingBatch
from harness.dictionaries.dictionary import DictionarySet
from harness.dictionaries.files.saelens import hook_of_site, write_saelens
from harness.dictionaries.measure import FREQUENCIES, DictionaryMeasures, measure
from harness.dictionaries.sequences import spliced_sequences
from harness.models.training.sequences import wanted_sequences
from harness.models.transformer import Transformer
from harness.runs.compute.dictionaries import obtain_dictionaries, require_trained
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import Log, obtain_model
from harness.runs.compute.prepare import TEST_SEED
from harness.runs.plan.dictionaries import PlannedDictionaries
from harness.runs.store.models import ModelStore


def measured_dictionaries(
    planned: PlannedDictionaries,
    pairs: int,
    models: ModelStore,
    log: Log,
    *,
    train: bool,
    sequences: int = 0,
) -> dict[str, Any]:
    """Measures on at most `pairs` test prompts of the task, and on so many whole sequences.

    Raises `HarnessError` if dictionaries would have to be trained first, unless `train`, and for
    sequences of a task that has none with every right next token.
    """
    if not train:
        require_trained(planned, models)
    use_runtime(planned.cell.runtime)
    data = open_data(planned.cell.task)
    task = planned.cell.task.spec.name
    drawn = data.pairs("test", pairs, TEST_SEED, at_most=True)
    whole = wanted_sequences(data, "test", sequences, TEST_SEED, task) if sequences else None
    model = obtain_model(planned.cell, data, models, log)
    dictionaries = obtain_dictionaries(planned, model, models, log)
    return {
        "schema_version": 1,
        "dictionary": planned.name,
        "dictionary_id": planned.id,
        "task": task,
        "model": planned.cell.model_name,
        "model_id": planned.cell.model_id,
        "split": "test",
        "frequency_edges": list(FREQUENCIES),
        **_record(measure(model, dictionaries, drawn)),
        "sequences": None if whole is None else _sequences(model, dictionaries, whole),
    }


def _sequences(
    model: Transformer, dictionaries: DictionarySet, whole: TrainingBatch
) -> dict[str, Any]:
    """Means over whole sequences, with the standard errors of means over independent ones."""
    measured = spliced_sequences(model, dictionaries, whole)
    return {
        "n": len(whole.tokens),
        "l0": measured.l0,
        "model": measured.model.means(),
        "spliced": measured.spliced.means(),
        "change": measured.change.means(),
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
