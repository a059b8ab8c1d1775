"""From a suite to its cells: what would be computed, and under which ids.

Planning is torch-free and does no numbers. A cell's id is the digest of its `identity`, a plain
JSON value with everything that can move the cell's numbers and nothing else
(`harness.spec.identity`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from harness.errors import HarnessError, NotFound
from harness.models.loading.tokenizer import on_model
from harness.runs.identities import (
    model_identity,
    plug_in_identity,
    task_identity,
    training_identity,
)
from harness.runs.left_out import LeftOut, missing_files
from harness.runs.unable import refuse_unable
from harness.runs.variants import excluded, refuse_idle_exclusions, variants
from harness.runs.weights import weight_digests
from harness.spec.identity import IDENTITY_VERSION, digest, identity_fields
from harness.spec.load import Library, Loaded
from harness.spec.search import is_path
from harness.spec.types import (
    LoadModel,
    Method,
    Model,
    Runtime,
    Suite,
    Task,
)

SEMANTICS_VERSION = 2
"""Bumped whenever a change of the code changes numbers: all cells are then computed anew."""

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
    model_folder: Path = field(compare=False)  # where a loaded model's `path` is looked for
    trained_on: Loaded[Task] | None = field(compare=False)  # None: the cell's own task
    method: Method = field(compare=False)
    role: Role
    seed: int
    runtime: Runtime
    limit: int | None  # at most this many pairs: a smoke run, never ranked
    variant: str = ""  # what the suite changed in the task's evaluation

    @property
    def smoke(self) -> bool:
        """Whether the cell was cut short with `limit`."""
        return self.limit is not None

    @property
    def place(self) -> tuple[str, str, str, str, int]:
        """Task, variant, model, method and seed by name: where tables put the cell."""
        task = self.task.spec.name
        return task, self.variant, self.model_name, self.method.name, self.seed

    def labels(self) -> dict[str, Any]:
        """What people call this cell."""
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
class Overrides:
    """What the command line changes in a suite; None leaves the suite's own choice."""

    methods: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    limit: int | None = None
    device: Literal["cpu", "cuda"] | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Plan:
    """A suite's cells in order, each once."""

    name: str  # also the name of the run's folder
    cells: tuple[Cell, ...]
    grid: frozenset[tuple[str, str]] = frozenset()
    """(task, variant) of the suite's whole grid, whichever cells are left out or were chosen."""
    left_out: tuple[LeftOut, ...] = ()
    """Tasks and models without cells, because files are missing and the suite may skip them."""

    @cached_property
    def by_model(self) -> Mapping[str, tuple[Cell, ...]]:
        """Cells grouped by model, both in the order of the plan."""
        groups: dict[str, list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault(cell.model_id, []).append(cell)
        return {model_id: tuple(cells) for model_id, cells in groups.items()}


def expand(suite: Loaded[Suite], library: Library, overrides: Overrides | None = None) -> Plan:
    """All cells of a suite, but for those of missing files if the suite says `skip_missing`.

    Raises `SpecError`, `NotFound` (a name, or files if no cell is left), or `HarnessError` for a
    bad grid.
    """
    overrides = overrides or Overrides()
    spec = suite.spec
    runtime = _runtime(spec.runtime, overrides)
    methods = _methods(spec, library, overrides, suite.folder)
    seeds = overrides.seeds if overrides.seeds is not None else spec.seeds
    cells: dict[str, Cell] = {}
    points: dict[tuple[str, str, str, str, int], Cell] = {}
    tasks = {ref: library.task(_reference(ref, suite.folder)) for ref in spec.tasks}
    varied_tasks = {ref: variants(task, spec) for ref, task in tasks.items()}
    refuse_idle_exclusions(spec, varied_tasks)
    left_out: list[LeftOut] = []
    for task_ref, task in tasks.items():
        for model_ref, source in _models(task, spec, library, suite.folder):
            grid = [
                (variant, varied, method, role, seed)
                for (variant, varied), (method, role), seed in itertools.product(
                    varied_tasks[task_ref], methods, seeds
                )
                if not excluded(spec, task_ref, model_ref, method.name, varied.spec.evaluation)
            ]
            if not grid:
                continue
            if spec.skip_missing and (
                needs := missing_files(task, source.spec, source.folder, source.trained_on)
            ):
                left_out.append(LeftOut(task.spec.name, source.name, needs))
                continue
            for variant, varied, method, role, seed in grid:
                made = make_cell(varied, source, method, role, seed, runtime, overrides.limit)
                cell = replace(made, variant=variant)
                _refuse_twin(cells.get(cell.id), cell)
                _refuse_namesake(points.setdefault(cell.place, cell), cell)
                cells[cell.id] = cell
    if not cells:
        raise _no_cells(spec.name, left_out)
    refuse_unable(cells.values())
    places = {
        (varied.spec.name, variant) for found in varied_tasks.values() for variant, varied in found
    }
    return Plan(spec.name, tuple(cells.values()), frozenset(places), tuple(left_out))


def _no_cells(suite: str, left_out: Sequence[LeftOut]) -> HarnessError:
    if not left_out:
        return HarnessError(f"suite {suite!r} excludes every cell of what is asked for")
    lines = [f"  {one.line()}" for one in left_out]
    return NotFound("\n".join([f"suite {suite!r} has no files for any of its cells:", *lines]))


def single_task(task: Loaded[Task], grid: Loaded[Suite], reference: str) -> Loaded[Suite]:
    """The suite that runs one task (found by `reference`) through the methods of `grid`."""
    if is_path(reference):
        reference = str(Path(reference).absolute())
    spec = replace(
        grid.spec,
        name=task.spec.name,
        title=task.spec.title,
        tasks=(reference,),
        models=(),
        evaluations=(),
        exclude=(),
    )
    return replace(grid, spec=spec)


@dataclass(frozen=True)
class ModelSource:
    """A model spec, what to call it, and the folder its paths are relative to.

    `trained_on` is the task whose data it is trained on, if it is not the one that uses it.
    """

    spec: Model
    name: str
    folder: Path
    trained_on: Loaded[Task] | None = None


def make_cell(
    task: Loaded[Task],
    source: ModelSource,
    method: Method,
    role: Role,
    seed: int,
    runtime: Runtime,
    limit: int | None = None,
) -> Cell:
    """One cell with its identity; reads the files that the task and model refer to.

    A task with the tokenizer of its model gets that of this one here, so that all later steps see
    a task whose tokenizer is a file.
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
    # A loaded model does not depend on the task's data; a trained one is made of it.
    own = {} if isinstance(source.spec, LoadModel) else training_identity(task_part)
    made_of = own if other is None else training_identity(task_identity(other))
    identity = {
        **shared,
        "task": task_part,
        # To say that a model is trained on the task's own data says nothing new.
        "model": model_part if made_of == own else {**model_part, "trained_on": made_of},
        "method": {**identity_fields(method), **plug_in_identity(method)},
        "seed": seed,
        "limit": limit,
    }
    return Cell(
        id=digest(identity),
        model_id=digest({**shared, **made_of, "model": model_part}),
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
    )


def check_files(cell: Cell) -> None:
    """Refuse to compute a cell whose files have changed since its id was made."""
    from harness.datasets.open import content_digests

    changed = dict(content_digests(cell.task)) != cell.identity["task"]["files"]
    if (made_of := cell.identity["model"].get("trained_on")) and cell.trained_on is not None:
        changed |= dict(content_digests(cell.trained_on)) != made_of["files"]
    if isinstance(cell.model, LoadModel):
        weights = weight_digests(cell.model, cell.model_folder)
        changed |= weights != cell.identity["model"]["weights"]
    if changed:
        raise HarnessError("a file of the task or model changed since the run was planned; rerun")


def minor_version(package: str) -> str:
    """Major and minor version of an installed package, without importing it."""
    match = re.match(r"\d+\.\d+", version(package))
    if match is None:
        raise HarnessError(f"cannot read the version of {package}: {version(package)!r}")
    return match.group()


def _runtime(runtime: Runtime, overrides: Overrides) -> Runtime:
    if overrides.device is not None:
        runtime = replace(runtime, device=overrides.device)
    if overrides.threads is not None:
        runtime = replace(runtime, threads=overrides.threads)
    return runtime


def _methods(
    spec: Suite, library: Library, overrides: Overrides, folder: Path
) -> Sequence[tuple[Method, Role]]:
    chosen = [_reference(ref, folder) for ref in spec.methods]
    if overrides.methods is not None:
        chosen = list(overrides.methods)  # paths typed by a user are relative to where they are
    controls = [_reference(ref, folder) for ref in spec.controls]
    named: list[tuple[str, Role]] = [(ref, "method") for ref in chosen]
    # A control that also competes is shown once, as a competitor.
    named += [(ref, "control") for ref in controls if ref not in chosen]
    return [(library.method(ref).spec, role) for ref, role in named]


def _models(
    task: Loaded[Task], spec: Suite, library: Library, folder: Path
) -> Iterator[tuple[str | None, ModelSource]]:
    """Each model that a task is run with, by how the suite names it; None for the task's own."""
    if not spec.models:
        own = task.spec.model
        yield None, ModelSource(own, own.name or task.spec.name, task.folder, task.trained_on)
    for ref in spec.models:
        model = library.model(_reference(ref, folder))
        name = model.spec.name or Path(ref).stem
        yield ref, ModelSource(model.spec, name, model.folder, model.trained_on)


def _reference(ref: str, folder: Path) -> str:
    """A path inside a suite file is relative to that file; a name stays a name."""
    return str(folder / ref) if is_path(ref) else ref


def _refuse_namesake(other: Cell, cell: Cell) -> None:
    if other.id != cell.id:
        raise HarnessError(
            f"two different specs give {cell.title()!r} on model {cell.model_name!r}; "
            "tables could not tell them apart: give one another name"
        )


def _refuse_twin(twin: Cell | None, cell: Cell) -> None:
    if twin is None or twin.labels() == cell.labels():
        return
    raise HarnessError(
        f"{twin.title()!r} and {cell.title()!r} are the same computation under two names; "
        "keep one of them in the suite"
    )
