"""Tasks and models of a suite that are left out because their files are missing.

Only a suite with `skip_missing` leaves cells out; elsewhere a missing file is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.datasets.locate import find
from harness.errors import NotFound
from harness.models.loading.folder import CONFIG, WEIGHTS, model_files
from harness.runs.plan.shipped import shipped_weights
from harness.spec.load import Loaded
from harness.spec.types import LoadModel, Model, Task, TrainModel


@dataclass(frozen=True)
class Skipped:
    """A task on a model that a suite leaves out, and the files that it needs."""

    task: str
    model: str
    needs: tuple[str, ...]  # each says what is missing and where it can be put

    def line(self) -> str:
        """One line for messages."""
        needs = "; ".join(one.partition("\n")[0] for one in self.needs)
        return f"left out {self.task} on {self.model}: {needs}"


def missing_files(
    task: Loaded[Task], model: Model, folder: Path, trained_on: Loaded[Task] | None = None
) -> tuple[str, ...]:
    """The missing files of a task with a model whose spec is in `folder`.

    Files of the task that the model is `trained_on` are needed too. A model folder without its
    configuration or weights is reported too. A model of the hub is never missing: it is fetched.
    """
    from harness.datasets.check import needed_with

    needs = needed_with(task, model, folder, trained_on)
    if isinstance(model, TrainModel) and model.weights is not None:
        return (*needs, *_missing_weights(model, folder))
    if not isinstance(model, LoadModel) or model.path is None:
        return tuple(needs)
    path = find(model.path, folder)
    if path is None:
        needs.append(f"{model.path} has to hold {CONFIG} and {WEIGHTS} (or its shards)")
    else:
        try:
            model_files(path, model.format)
        except NotFound as error:
            needs.append(str(error))
    return tuple(needs)


def _missing_weights(model: TrainModel, folder: Path) -> list[str]:
    """Why the weights of a trained model are not there; nothing if they are."""
    try:
        model_files(shipped_weights(model, folder).folder)
    except NotFound as error:
        return [str(error)]
    return []
