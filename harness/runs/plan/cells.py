"""One point of a suite's grid, and its id.

A cell's id is the digest of its `identity`, a plain JSON value with everything that can move the
cell's numbers and nothing else (`harness.spec.identity`). Nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import HarnessError
from harness.models.loading.tokenizer import on_model
from harness.runs.plan.identities import (
    data_identity,
    model_identity,
    plug_in_identity,
    task_identity,
    training_identity,
)
from harness.runs.plan.shipped import refuse_other_spec
from harness.runs.plan.threads import of_training
from harness.runs.plan.weights import weight_digests
from harness.spec.identity import IDENTITY_VERSION, digest, identity_fields
from harness.spec.load import Loaded
from harness.spec.types import LoadModel, Method, Model, Runtime, Task, TrainModel

if TYPE_CHECKING:
    from harness.runs.plan.dictionaries import PlannedDictionaries

SEMANTICS_VERSION = 2
"""Bumped whenever a change of the code changes numbers: all cells are then computed anew."""

HALF_SEMANTICS_VERSION = 2
"""The same for changes of numbers in half precision alone."""

Role = Literal["method", "control"]


@dataclass(frozen=True)
class Cell:
    """One point of a suite's grid: all that is needed to compute it, and its id."""

    id: str
    model_id: str  # digest of what made the model; cells with equal model_id share the model
    identity: Mapping[str, Any] = field(compare=False)
    task: Loaded[Task] = field(compare=False)
    model: Model = field(compare=False)
    model_name: str
    model_folder: Path = field(compare=False)  # folder that a loaded model's `path` is relative to
    trained_on: Loaded[Task] | None = field(compare=False)  # None: the cell's own task
    method: Method = field(compare=False)
    role: Role
    seed: int
    runtime: Runtime
    limit: int | None  # at most this many pairs: a smoke run, never ranked
    variant: str = ""  # what the suite changed in the task's evaluation
    dictionaries: PlannedDictionaries | None = field(default=None, compare=False)
    beside: Cell | None = field(default=None, compare=False)
    """Of a control search: the cell whose search it repeats, in whose table it stands."""

    @property
    def smoke(self) -> bool:
        """Whether the cell was cut short with `limit`."""
        return self.limit is not None

    @property
    def place(self) -> tuple[str, str, str, str, int]:
        """Task, variant, model, method and seed by name: where tables put the cell."""
        task = self.task.spec.name
        return task, self.variant, self.model_name, self.method.name, self.seed

    @property
    def trains(self) -> bool:
        """Whether the model has to be trained where the store does not have it."""
        return isinstance(self.model, TrainModel) and self.model.weights is None

    def labels(self) -> dict[str, Any]:
        """The names by which users know this cell."""
        return {
            "task": self.task.spec.name,
            "variant": self.variant,
            "model": self.model_name,
            "method": self.method.name,
            "role": self.role,
            "seed": self.seed,
            "limit": self.limit,
        }

    def title(self) -> str:
        """One line for messages."""
        smoke = f" limit {self.limit}" if self.smoke else ""
        variant = f" ({self.variant})" if self.variant else ""
        return f"{self.task.spec.name}{variant} {self.method.name} seed {self.seed}{smoke}"

    def header(self) -> dict[str, Any]:
        """The fields of `result.json` that are known before anything is computed."""
        return {
            "schema_version": 2,
            "cell": self.id,
            "identity": dict(self.identity),
            "task": self.task.spec.name,
            "task_version": self.task.spec.version,
            "model": self.model_name,
            "model_id": self.model_id,
            "method": self.method.name,
            "method_version": self.method.version,
            "role": self.role,
            "seed": self.seed,
            "smoke": self.smoke,
        }


@dataclass(frozen=True)
class ModelSource:
    """A model spec, what to call it, and the folder its paths are relative to.

    `trained_on` is the task whose data it is trained on, if it is not the one that uses it.
    """

    spec: Model
    name: str
    folder: Path
    trained_on: Loaded[Task] | None = None

    @classmethod
    def of(cls, task: Loaded[Task]) -> ModelSource:
        """A task's own model: by its name; else one that is loaded is called after its folder or
        its place on the hub, and another one after the task.
        """
        own = task.spec.model
        name = own.name or task.spec.name
        if own.name is None and isinstance(own, LoadModel):
            name = _last_part(own.hub or own.path) or name
        return cls(own, name, task.folder, task.trained_on)

    @classmethod
    def named(cls, model: Loaded[Model], ref: str) -> ModelSource:
        """A model that was asked for as `ref`: by its name, else called after its file."""
        name = model.spec.name or PurePath(ref).stem
        return cls(model.spec, name, model.folder, model.trained_on)


def _half_code(runtime: Runtime) -> dict[str, int]:
    """What identifies the code of cells in half precision, beside that of all."""
    half = runtime.dtype in ("bfloat16", "float16")
    return {"half_precision_code": HALF_SEMANTICS_VERSION} if half else {}


def _last_part(place: str | None) -> str:
    """The last part of a path or of an id on the hub, that is not the folder itself."""
    parts = PurePath(place or "").parts
    return next((part for part in reversed(parts) if part not in (".", "..", "/")), "")


def make_cell(
    task: Loaded[Task],
    source: ModelSource,
    method: Method,
    role: Role,
    seed: int,
    runtime: Runtime,
    limit: int | None = None,
) -> Cell:
    """Return one cell with its identity; reads the files that the task and model refer to.

    A task with `tokenizer: model` gets the tokenizer file of this model, so that all later steps
    see a task whose tokenizer is a file.
    """
    task = on_model(task, source.spec, source.folder)
    shared = {
        "identity_version": IDENTITY_VERSION,
        "code": SEMANTICS_VERSION,
        "torch": minor_version("torch"),
        "numpy": minor_version("numpy"),  # draws the data; its streams may change
        "runtime": identity_fields(runtime),
    }
    task_part, other = task_identity(task), source.trained_on
    model_part = model_identity(source.spec, source.folder)
    own = {} if isinstance(source.spec, LoadModel) else training_identity(task_part)
    training = data_identity(source.spec, source.folder, task_part, other)
    if isinstance(source.spec, TrainModel) and source.spec.weights is not None:
        refuse_other_spec(source.spec, source.folder, model_part, training)
    identity = {
        **shared,
        **_half_code(runtime),
        "task": task_part,
        # Training on the task's own data is the default, and leaves no trace in the identity.
        "model": model_part if training == own else {**model_part, "trained_on": training},
        "method": {**identity_fields(method), **plug_in_identity(method)},
        "seed": seed,
        "limit": limit,
    }
    model_id = digest({**shared, "runtime": of_training(runtime), **training, "model": model_part})
    dictionaries = _dictionaries(task, model_id, source.name, runtime)
    if dictionaries is not None:
        identity["dictionary"] = dict(dictionaries.identity)
    return Cell(
        id=digest(identity),
        model_id=model_id,
        identity=identity,
        task=task,
        model=source.spec,
        model_name=source.name,
        model_folder=source.folder,
        trained_on=other,
        method=method,
        role=role,
        seed=seed,
        runtime=runtime,
        limit=limit,
        dictionaries=dictionaries,
    )


def _dictionaries(
    task: Loaded[Task], model_id: str, model: str, runtime: Runtime
) -> PlannedDictionaries | None:
    """The dictionaries that the task's evaluation names, which must be of the cell's model."""
    if task.dictionary is None:
        return None
    from harness.runs.plan.dictionaries import plan_dictionaries

    planned = plan_dictionaries(task.dictionary, runtime)
    if planned.cell.model_id != model_id:
        raise HarnessError(
            f"dictionaries {planned.name!r} are of model {planned.cell.model_name!r} "
            f"[{planned.cell.model_id[:12]}], and task {task.spec.name!r} is run with "
            f"{model!r} [{model_id[:12]}]: their features are no parts of it"
        )
    return planned


def remade(cell: Cell) -> Cell:
    """The cell as this process makes it of the same specs.

    Code, packages or files that are not those of the process that planned it give it another id.
    """
    source = ModelSource(cell.model, cell.model_name, cell.model_folder, cell.trained_on)
    task, method = cell.task, cell.method
    return make_cell(task, source, method, cell.role, cell.seed, cell.runtime, cell.limit)


def check_files(cell: Cell) -> None:
    """Refuse to compute a cell whose files have changed since its id was made."""
    if _files_changed(cell):
        raise HarnessError("a file of the task or model changed since the run was planned; rerun")


def _files_changed(cell: Cell) -> bool:
    """Whether a file of the task, the model or the dictionaries is another one than then."""
    from harness.datasets.open import content_digests

    changed = dict(content_digests(cell.task)) != cell.identity["task"]["files"]
    if (training := cell.identity["model"].get("trained_on")) and cell.trained_on is not None:
        changed |= dict(content_digests(cell.trained_on)) != training["files"]
    if isinstance(cell.model, TrainModel) and cell.model.corpus is not None:
        changed |= data_identity(cell.model, cell.model_folder, {}, None) != training
    if (weights := cell.identity["model"].get("weights")) is not None:
        assert isinstance(cell.model, LoadModel | TrainModel)  # no other model has any
        changed |= weight_digests(cell.model, cell.model_folder) != weights
    if cell.dictionaries is not None:
        changed |= cell.dictionaries.files_changed()
        if cell.dictionaries.trains:  # on the prompts of what may be another task
            changed |= _files_changed(cell.dictionaries.cell)
    return bool(changed)


def minor_version(package: str) -> str:
    """Major and minor version of an installed package, without importing it."""
    match = re.match(r"\d+\.\d+", version(package))
    if match is None:
        raise HarnessError(f"cannot read the version of {package}: {version(package)!r}")
    return match.group()
