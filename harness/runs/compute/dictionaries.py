"""Obtain dictionaries of a model: trained (once, then kept beside models), or loaded."""

from __future__ import annotations

import time
from copy import deepcopy

import torch

from harness import ranks
from harness.datasets.classes import classes_of
from harness.datasets.locate import locate
from harness.datasets.open import open_data
from harness.datasets.pairs import Objective, TaskData
from harness.dictionaries.dictionary import DictionarySet
from harness.dictionaries.files.store import fitting, load_dictionaries, save_dictionaries
from harness.dictionaries.sites import chosen_sites
from harness.dictionaries.training.chance import random_dictionaries
from harness.dictionaries.training.trainer import DictionaryTrainer
from harness.errors import HarnessError
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer
from harness.runs.compute.machine import use_precision
from harness.runs.compute.obtain import VALIDATION_PAIRS, Log, require_first, write_note
from harness.runs.plan import Cell
from harness.runs.plan.dictionaries import PlannedDictionaries
from harness.runs.plan.shipped import weights_folder
from harness.runs.store.models import ModelStore
from harness.spec.types import LoadDictionary, RandomDictionary, TrainDictionary


def dictionaries_of(
    cell: Cell, model: Transformer, models: ModelStore, log: Log, *, train: bool = True
) -> DictionarySet | None:
    """The dictionaries that a cell's circuits are made of; None for cells of other circuits.

    Raises `HarnessError` for dictionaries that would have to be trained first, unless `train`.
    """
    planned = cell.dictionaries
    if planned is None:
        return None
    if planned.trains and not (train or models.dictionaries.exists(planned.id)):
        raise _untrained(planned)
    return obtain_dictionaries(planned, model, models, log)


def stated_sizes(planned: PlannedDictionaries, config: TransformerConfig) -> dict[str, int]:
    """Features by site, as a spec states them; none for dictionaries that are read from files.

    `config`: of the model. Raises `HarnessError` for a site that it does not have.
    """
    spec = planned.loaded.spec
    if isinstance(spec, LoadDictionary):
        return {}
    return {one.name: spec.dictionary.features for one in chosen_sites(config, spec.sites)}


def require_trained(planned: PlannedDictionaries, models: ModelStore) -> None:
    """Refuse dictionaries, or a model of theirs, that would have to be trained (`HarnessError`)."""
    cell = planned.cell
    if planned.trains and not models.dictionaries.exists(planned.id):
        raise _untrained(planned)
    if cell.trains and not models.exists(cell.model_id):
        raise HarnessError(
            f"model {cell.model_name} [{cell.model_id[:12]}] of dictionaries {planned.name} is not "
            "trained yet; --train trains and keeps it"
        )


def _untrained(planned: PlannedDictionaries) -> HarnessError:
    return HarnessError(
        f"dictionaries {planned.name} [{planned.id[:12]}] are not trained yet; --train trains and "
        "keeps them (`harness dictionary`)"
    )


def obtain_dictionaries(
    planned: PlannedDictionaries, model: Transformer, models: ModelStore, log: Log
) -> DictionarySet:
    """The dictionaries, frozen, on the model's device and in its precision.

    Trained ones are trained under a lock, with checkpoints from which an interrupted training
    resumes. Raises `HarnessError` for files that are no dictionaries or do not fit the model.
    """
    spec, store, folder = planned.loaded.spec, models.dictionaries, planned.loaded.folder
    if isinstance(spec, LoadDictionary):
        read = load_dictionaries(locate(spec.path, folder), spec.format)
    elif isinstance(spec, TrainDictionary) and spec.weights is not None:
        read = load_dictionaries(weights_folder(spec, folder), "harness")
    else:
        with ranks.turns("training dictionaries"), store.lock(planned.id):
            if store.exists(planned.id):
                log(f"dictionaries {planned.name} [{planned.id[:12]}] are in the cache")
            else:
                require_first(f"dictionaries {planned.name}", store)
                _refuse_shards(planned, model)
                _train(planned, spec, open_data(planned.cell.task), model, store, log)
        store.verify(planned.id)
        read = load_dictionaries(store.path(planned.id), "harness")
    weight = model.embedding
    return fitting(read, model.config).to(weight.device, weight.dtype).frozen()


def _refuse_shards(planned: PlannedDictionaries, model: Transformer) -> None:
    if model.gatherings is not None:
        raise HarnessError(
            f"dictionaries {planned.name} are not trained yet, and process 0 cannot train them "
            "alone where weights lie in shards: run their task once with `shards` at 1"
        )


def _train(
    planned: PlannedDictionaries,
    spec: TrainDictionary | RandomDictionary,
    data: TaskData,
    model: Transformer,
    store: ModelStore,
    log: Log,
) -> None:
    log(f"training dictionaries {planned.name} [{planned.id[:12]}]")
    began = time.perf_counter()
    single = _in_single(model)
    # Prompts whose answers are classes have no next token; others are the same tokens.
    objective: Objective = "answer" if classes_of(data) else "next_token"
    history: list[dict[str, float]] = []
    if isinstance(spec, RandomDictionary):
        dictionaries = random_dictionaries(single, spec, data, objective)
    else:
        device = single.embedding.device.type
        use_precision(spec.training.precision, device, "training.precision")
        trainer = DictionaryTrainer(
            single,
            spec,
            data,
            data.pairs("validation", VALIDATION_PAIRS, spec.training.seed, at_most=True),
            scratch=store.scratch(planned.id),
            log=log,
            objective=objective,
        )
        dictionaries, history = trainer.run()
    seconds = time.perf_counter() - began
    folder = store.draft(planned.id)
    save_dictionaries(dictionaries, folder)
    write_note(folder / "training.json", {"identity": dict(planned.identity), "history": history})
    write_note(folder / "timing.json", {"seconds": seconds})
    store.publish(planned.id, folder)
    log(f"trained dictionaries {planned.name} in {seconds:.0f} s")


def _in_single(model: Transformer) -> Transformer:
    """The model in float32: a copy where it is not, since the cell goes on in its own precision."""
    single = model.embedding.dtype == torch.float32
    return model if single else deepcopy(model).to(torch.float32)
