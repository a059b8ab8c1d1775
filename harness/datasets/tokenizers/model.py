"""`tokenizer: {kind: model}`: the vocabulary of the model that a task is run with.

Such a task has no tokens until a model is chosen. It then gets the `tokenizer.json` of the model's
folder, or that of the corpus that the model is trained on; to all else it is a task with a file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.datasets.locate import find, locate, needed
from harness.datasets.tokenizers.choose import needs_model
from harness.errors import HarnessError, NotFound
from harness.spec.types import LoadModel, Model, Task, TrainModel

if TYPE_CHECKING:
    from harness.spec.load import Loaded

TOKENIZER_FILE = "tokenizer.json"


def with_model_tokenizer(
    task: Loaded[Task], model_folder: Path, bos: str | None = None
) -> Loaded[Task]:
    """Return the task over the tokenizer of the model in a folder, BOS as the task asks for it.

    A task with a tokenizer of its own is returned as it is. `bos`: the token that is BOS of this
    model, if its spec says so. Raises NotFound if the folder has no `tokenizer.json`.
    """
    if not needs_model(task.spec.tokenizer):
        return task
    file = model_folder / TOKENIZER_FILE
    if not file.is_file():
        raise NotFound(_lacks(model_folder))
    return _over(task, file, bos)


def with_corpus_tokenizer(task: Loaded[Task], model: TrainModel, folder: Path) -> Loaded[Task]:
    """Return the task over the tokenizer of the corpus that a model is trained on.

    `folder` is that of the model's spec. A task with a tokenizer of its own is returned as it is.
    Raises NotFound if the file is missing, HarnessError if the model has no corpus.
    """
    if not needs_model(task.spec.tokenizer):
        return task
    if model.corpus is None:
        raise HarnessError(f"task {task.spec.name!r}: tokenizer: {no_tokenizer(model)}")
    return _over(task, locate(model.corpus.tokenizer, folder), None)


def _over(task: Loaded[Task], file: Path, bos: str | None) -> Loaded[Task]:
    asked = task.spec.tokenizer.bos
    named = bos if asked is True and bos is not None else asked
    tokenizer = replace(task.spec.tokenizer, path=str(file.absolute()), bos=named)
    return replace(task, spec=replace(task.spec, tokenizer=tokenizer))


def no_tokenizer(model: Model) -> str | None:
    """Return why a model has no tokenizer that a task could take; None if it may have one."""
    if isinstance(model, LoadModel) or (isinstance(model, TrainModel) and model.corpus is not None):
        return None
    origin = "trained" if model.kind == "train" else "compiled"
    return (
        "kind 'model' needs the tokenizer of a loaded model, or of one with a corpus; another one "
        f"that is {origin} has none: it takes that of the task"
    )


def on_this_machine(task: Loaded[Task], model: Model, folder: Path) -> Loaded[Task]:
    """Return the task over the tokenizer of a model in a local folder, if it exists.

    `folder` is that of the model's spec. Nothing is fetched: with a model of the hub, or one that
    is missing, the task is returned unchanged.
    """
    if isinstance(model, TrainModel) and model.corpus is not None:
        there = find(model.corpus.tokenizer, folder) is not None
        return with_corpus_tokenizer(task, model, folder) if there else task
    place = _local_folder(model, folder)
    if place is None or not (place / TOKENIZER_FILE).is_file():
        return task
    return with_model_tokenizer(task, place, model.bos if isinstance(model, LoadModel) else None)


def missing_tokenizer(model: Model, folder: Path) -> str | None:
    """Return the message for a local model without tokenizer; `folder` is that of its spec."""
    if not isinstance(model, LoadModel) or model.path is None:
        return None
    place = _local_folder(model, folder)
    if place is None:
        return needed(f"{model.path}/{TOKENIZER_FILE}", folder)
    return None if (place / TOKENIZER_FILE).is_file() else _lacks(place)


def _local_folder(model: Model, folder: Path) -> Path | None:
    if not isinstance(model, LoadModel) or model.path is None:
        return None
    return find(model.path, folder)


def _lacks(folder: Path) -> str:
    return (
        f"model folder {folder} has no {TOKENIZER_FILE}, which the task needs (tokenizer of kind "
        "'model'); put it there"
    )
