"""What a task asks, pair by pair, and what its model answers: as plain JSON data.

The pairs are the first of those that a cell of the task is measured on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from harness.circuits.patchable import plain_logits
from harness.datasets.batch import Batches
from harness.datasets.kinds import numeric_answers
from harness.datasets.open import open_data
from harness.datasets.pairs import PromptPairs, TaskData
from harness.datasets.program import CARRIER
from harness.errors import HarnessError, NotFound
from harness.evaluation.verdict import verdict
from harness.models.loading.tokenizer import on_model
from harness.models.training.sequences import sequence_quality, wanted_sequences
from harness.models.transformer import Transformer
from harness.runs.compute.background import background_of
from harness.runs.compute.dictionaries import dictionaries_of
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import obtain_model
from harness.runs.compute.prepare import (
    TEST_SEED,
    Drawn,
    check_lengths,
    discovery_pairs,
    prepare,
)
from harness.runs.plan import Cell, ModelSource, make_cell
from harness.runs.plan.shipped import TRAINING, shipped_weights
from harness.runs.prompts.words import Outputs, expected, pair_in_words
from harness.runs.store.models import ModelStore
from harness.spec.issues import unknown
from harness.spec.load import Loaded
from harness.spec.types import Method, Runtime, Task, TrainModel

_LABEL = Method(name="look", title="Prompts alone", kind="random")
"""A cell needs a method; the model and the pairs do not depend on it."""

Log = Callable[[str], None]


@dataclass(frozen=True)
class View:
    """What to look at: the first `pairs` of a split, with the model of `source`.

    `train`: train a model that is not there yet; else the pairs are shown without one.
    `sequences`: also measure the model on so many whole sequences of the split.
    """

    task: Loaded[Task]
    source: ModelSource
    runtime: Runtime
    split: str = "test"
    pairs: int = 3
    train: bool = False
    sequences: int = 0


def look(view: View, models: ModelStore, log: Log) -> dict[str, Any]:
    """Tokens, differences, read positions and answers of each pair, and the model's guesses.

    Raises `HarnessError` for an unknown split, and all that opening the task or loading its model
    may raise; a model that is not there is logged.
    """
    loaded = on_model(view.task, view.source.spec, view.source.folder)
    cell = make_cell(loaded, view.source, _LABEL, "method", 0, view.runtime)
    data = open_data(loaded)
    if view.split not in data.splits:
        raise HarnessError(unknown("split", view.split, data.splits))
    choices = loaded.spec.evaluation
    drawn = data.pairs(view.split, choices.test_pairs, TEST_SEED, at_most=True)
    shown = drawn.take(slice(view.pairs))
    numbers = numeric_answers(loaded.spec.data)
    outputs = Outputs(data.tokenizer, loaded.spec.answers)
    pairs = [pair_in_words(shown, row, outputs) for row in range(len(shown))]
    report = {
        "schema_version": 1,
        "task": loaded.spec.name,
        "split": view.split,
        "n_pairs": len(drawn),
        "answers_are_numbers": numbers,
        "model": view.source.name,
        "model_id": None,
        "training": None,
        "verdict": None,
        "pairs": pairs,
        "sequences": None,
    }
    model = _model(view, cell, data, models, log)
    if model is not None:
        report["model_id"] = cell.model_id
        report["training"] = _training(cell, models)
        _add_guesses(pairs, shown, model, outputs, numbers=numbers)
        report["verdict"] = _verdict(view, cell, model, data, drawn, models, log)
        if view.sequences:
            report["sequences"] = _sequences(view, model, data)
    return report


def _sequences(view: View, model: Transformer, data: TaskData) -> dict[str, Any]:
    """Measures of whole sequences, in parts and position by position."""
    name = view.task.spec.name
    batch = wanted_sequences(data, view.split, view.sequences, TEST_SEED, name)
    measured = sequence_quality(model, batch, model.embedding.device.type)
    return {
        "n": view.sequences,
        "parts": {name: measured.means(part) for name, part in measured.parts().items()},
        "curve": measured.curve(),
    }


def _model(
    view: View, cell: Cell, data: TaskData, models: ModelStore, log: Log
) -> Transformer | None:
    """The model, unless it would have to be trained or brought first."""
    use_runtime(cell.runtime)
    if cell.trains and not (view.train or models.exists(cell.model_id)):
        log(
            f"model {cell.model_name} is not trained yet, so its answers are not shown; --train "
            "trains and keeps it, as `harness run` does"
        )
        return None
    try:
        return obtain_model(cell, data, models, log)
    except NotFound as error:
        log(f"the answers of model {cell.model_name} are not shown: {error}")
        return None


def _training(cell: Cell, models: ModelStore) -> dict[str, Any] | None:
    """How the training of a trained model ended: its last evaluation, and the entries it may use.

    `entries` of a sparse model: those of the tensors that have a budget.
    """
    if not isinstance(cell.model, TrainModel):
        return None
    shipped = cell.model.weights is not None
    folder = (
        shipped_weights(cell.model, cell.model_folder) if shipped else models.read(cell.model_id)
    )
    note = folder.json(TRAINING)
    last = {name: value for name, value in note["history"][-1].items() if name != "tensors"}
    if "budgets" in note:
        last["entries"] = sum(budget["entries"] for budget in note["budgets"].values())
    return last


def _verdict(
    view: View,
    cell: Cell,
    model: Transformer,
    data: TaskData,
    drawn: PromptPairs,
    models: ModelStore,
    log: Log,
) -> dict[str, Any] | None:
    """Whether there is anything to explain, on all pairs of the split; None where it is unknown."""
    task = cell.task.spec
    choices, device = task.evaluation, model.embedding.device.type
    try:
        discovery = discovery_pairs(data, choices, choices.discovery_pairs, 0, at_most=True)
        both = Drawn(discovery, drawn)
        check_lengths(choices, both)
        setup = prepare(
            model,
            choices,
            both,
            device=device,
            seed=0,
            classes=task.answers,
            background=background_of(cell, data, models),
            dictionaries=dictionaries_of(cell, model, models, log, train=view.train),
        ).test
        judged = verdict(setup, numbers=numeric_answers(task.data))
    except HarnessError as error:
        log(f"what the ablation does is not known: {error}")
        return None
    return {
        "text": str(judged),
        "metric": judged.metric,
        "moved": judged.moved,
        "low": judged.low,
        "high": judged.high,
        "faults": list(judged.faults),
    }


# ---------------------------------------------------------------- the model's guesses
@torch.no_grad()
def _add_guesses(
    shown: list[dict[str, Any]],
    pairs: PromptPairs,
    model: Transformer,
    outputs: Outputs,
    *,
    numbers: bool,
) -> None:
    """Put `clean` and `corrupted` into every read of the pairs: what the model expects there."""
    for batch in Batches(pairs, len(pairs), model.embedding.device.type):
        good, bad, used = batch.good.cpu(), batch.bad.cpu(), batch.read.cpu()
        for name, corrupted in (("clean", False), ("corrupted", True)):
            logits = plain_logits(model, batch, corrupted=corrupted).double().cpu()
            for place, row in enumerate(batch.rows.tolist()):
                slots = used[place].nonzero().flatten().tolist()
                for read, slot in zip(shown[row]["reads"], slots, strict=True):
                    at, right, wrong = logits[place, slot], good[place, slot], bad[place, slot]
                    read[name] = (
                        {"number": float(at[CARRIER])}
                        if numbers
                        else expected(at, right, wrong, outputs)
                    )
