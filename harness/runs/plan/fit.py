"""Whether a task can be run with a model, as far as files tell before anything is computed.

Of a model that is loaded, `config.json` and the headers of its weights are read; of a task, the
prompts that its evaluation draws. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.datasets.locate import find
from harness.datasets.open import open_data
from harness.datasets.pairs import PromptPairs, TaskData, ablation_problem
from harness.datasets.tokenizers import needs_model
from harness.datasets.tokenizers.model import on_this_machine
from harness.errors import HarnessError, NotFound, StoreCorrupt
from harness.models.config import TransformerConfig
from harness.models.fit import length_problem, outputs_problem, token_problem
from harness.models.loading.location import checkpoint_folder
from harness.models.loading.read import read_checkpoint
from harness.runs.plan.identities import data_identity, model_identity
from harness.runs.plan.shipped import refuse_other_spec
from harness.spec.load import Loaded
from harness.spec.types import Evaluation, LoadModel, Model, Task, TrainModel

if TYPE_CHECKING:
    from harness.runs.plan import Cell

_OF_LENGTHS = ("resample", "mean_positional")
"""Ablations that ask something of the lengths of prompts."""


def model_problem(model: Model, folder: Path) -> str | None:
    """Why a model in a local folder cannot be loaded; None if it can or its files are missing.

    `folder` is that of the model's spec.
    """
    try:
        local_config(model, folder)
    except HarnessError as error:
        return str(error)
    return None


def weights_problem(model: Model, folder: Path, trained_on: Loaded[Task] | None) -> str | None:
    """Why the weights beside a spec are not its own; None if they are, or are not there.

    `folder` is that of the model's spec, `trained_on` the task whose data it is trained on.
    """
    if not isinstance(model, TrainModel) or model.weights is None:
        return None
    if model.corpus is None and (trained_on is None or needs_model(trained_on.spec.tokenizer)):
        return None
    try:
        training = data_identity(model, folder, {}, trained_on)
        refuse_other_spec(model, folder, model_identity(model, folder), training)
    except NotFound:
        return None  # reported as missing files
    except (HarnessError, StoreCorrupt) as error:
        return str(error)
    return None


def fit_problem(task: Loaded[Task], model: Model, folder: Path) -> str | None:
    """Why a task cannot be run with a model that is loaded: its own text, or that of the prompts.

    None where it can, and where it cannot be told, since files of either are missing or broken.
    """
    try:
        config = local_config(model, folder)
    except HarnessError as error:
        return str(error)
    return None if config is None else _misfit(config, on_this_machine(task, model, folder))


def refuse_unfit(cells: Iterable[Cell]) -> None:
    """Refuse cells that cannot be run with their model of the hub, which is fetched by now.

    Raises `HarnessError`. Models in local folders are checked with the specs, nothing fetched.
    """
    hub = [cell for cell in cells if isinstance(cell.model, LoadModel) and cell.model.hub]
    distinct = {
        (cell.model_id, cell.task.spec.name, cell.task.spec.evaluation): cell for cell in hub
    }
    for cell in distinct.values():
        assert isinstance(cell.model, LoadModel)
        place = checkpoint_folder(cell.model, cell.model_folder)
        config = read_checkpoint(place, cell.model.format, cell.model.without_tokens or ()).config
        if problem := _misfit(config, cell.task):
            raise HarnessError(f"{cell.task.spec.name} on {cell.model_name}: {problem}")


def _misfit(config: TransformerConfig, task: Loaded[Task]) -> str | None:
    """Why the task's prompts and answers do not suit a model, if that can be told."""
    data = _opened(task)
    if data is None:
        return None
    drawn = _drawn(data, task.spec.evaluation)
    return (
        outputs_problem(config, data)
        or length_problem(config, data.longest)
        or token_problem(config, *drawn, tokenizer=data.tokenizer)
    )


def lengths_problem(task: Loaded[Task]) -> str | None:
    """Why the task's ablation does not suit the lengths of its prompts; None if it does."""
    choices = task.spec.evaluation
    if choices.ablation not in _OF_LENGTHS or choices.discovery_repeats:
        return None
    data = _opened(on_this_machine(task, task.spec.model, task.folder))
    drawn = () if data is None else _drawn(data, choices)
    return ablation_problem(choices.ablation, *drawn) if len(drawn) == 2 else None


def local_config(model: Model, folder: Path) -> TransformerConfig | None:
    """The shape of a model in a local folder; None where files are missing, or for other models.

    Raises `HarnessError` for a folder that cannot be loaded.
    """
    path = find(model.path, folder) if isinstance(model, LoadModel) and model.path else None
    if path is None or not isinstance(model, LoadModel):
        return None
    try:
        return read_checkpoint(path, model.format, model.without_tokens or ()).config
    except NotFound:
        return None


def _opened(task: Loaded[Task]) -> TaskData | None:
    """The task's data; None where they are broken, which is reported elsewhere, or not there."""
    if needs_model(task.spec.tokenizer):
        return None
    try:
        return open_data(task)
    except HarnessError:
        return None


def _drawn(data: TaskData, choices: Evaluation) -> tuple[PromptPairs, ...]:
    """The pairs for discovery with the first seed and those for the test; () if there are none."""
    try:
        return (
            data.pairs("train", choices.discovery_pairs, 0, at_most=True),
            data.pairs("test", choices.test_pairs, 0, at_most=True),
        )
    except HarnessError:
        return ()
