"""A task over the tokenizer of the model that it is run with."""

from __future__ import annotations

from pathlib import Path

from harness.datasets.tokenizers import needs_model
from harness.datasets.tokenizers.model import (
    missing_tokenizer,
    no_tokenizer,
    with_corpus_tokenizer,
    with_model_tokenizer,
)
from harness.errors import HarnessError, NotFound
from harness.models.loading.location import checkpoint_folder
from harness.spec.load import Loaded
from harness.spec.types import LoadModel, Model, Task, TrainModel


def on_model(task: Loaded[Task], model: Model, folder: Path) -> Loaded[Task]:
    """The task with the tokenizer of a model whose spec stands in `folder`.

    A task with a tokenizer of its own is returned as it is. A model of the hub is fetched. Raises
    `NotFound` if the model or its `tokenizer.json` is missing, `HarnessError` for a model that
    has none.
    """
    if not needs_model(task.spec.tokenizer):
        return task
    if isinstance(model, TrainModel) and model.corpus is not None:
        return with_corpus_tokenizer(task, model, folder)
    if not isinstance(model, LoadModel):
        raise HarnessError(f"task {task.spec.name!r}: tokenizer: {no_tokenizer(model)}")
    if lacking := missing_tokenizer(model, folder):
        raise NotFound(lacking)
    return with_model_tokenizer(task, checkpoint_folder(model, folder), model.bos)
