"""Expand a suite into its cells. Nothing here imports torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from harness.discovery.refusals import granularity_problem, per_token_problem, tracing_problem
from harness.errors import HarnessError, NotFound
from harness.runs.plan.cells import Cell, ModelSource, Role, make_cell
from harness.runs.plan.control_searches import control_cell
from harness.runs.plan.fit import refuse_unfit
from harness.runs.plan.processes import refuse_other_shards, started
from harness.runs.plan.skipped import Skipped, missing_files
from harness.runs.plan.threads import AUTO, threads_for
from harness.runs.plan.unable import refuse_unable
from harness.runs.plan.variants import (
    excluded,
    refuse_idle_exclusions,
    variants_with_dictionaries,
)
from harness.spec.load import Library, Loaded
from harness.spec.search import is_path
from harness.spec.types import ControlSearch, Method, Model, Runtime, Suite, Task


@dataclass(frozen=True)
class Overrides:
    """What the command line changes in a suite; None leaves the suite's own choice.

    `threads` "auto": one for the cells of a small model (`threads.threads_for`). `processes` is
    refused where the suite says another number.
    """

    methods: tuple[str, ...] | None = None
    control_searches: tuple[ControlSearch, ...] | None = None
    seeds: tuple[int, ...] | None = None
    limit: int | None = None
    device: Literal["cpu", "cuda"] | None = None
    threads: int | Literal["auto"] | None = None
    processes: int | None = None
    shards: int | None = None


@dataclass(frozen=True)
class Plan:
    """A suite's cells in order, each once."""

    name: str  # also the name of the run's folder
    cells: tuple[Cell, ...]
    grid: frozenset[tuple[str, str]] = frozenset()
    """(task, variant) of the suite's whole grid, whichever cells are left out or were chosen."""
    skipped: tuple[Skipped, ...] = ()
    """Tasks and models without cells, because files are missing and the suite may skip them."""

    @cached_property
    def by_model(self) -> Mapping[str, tuple[Cell, ...]]:
        """Cells grouped by model, both in the order of the plan."""
        groups: dict[str, list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault(cell.model_id, []).append(cell)
        return {model_id: tuple(cells) for model_id, cells in groups.items()}


def expand(suite: Loaded[Suite], library: Library, overrides: Overrides | None = None) -> Plan:
    """Return all cells of a suite; with `skip_missing`, without those whose files are missing.

    Raises `SpecError`, `NotFound` (a name, or files if no cell is left), or `HarnessError` for a
    bad grid.
    """
    overrides = overrides or Overrides()
    whole = _Expanded({}, {}, {}, [])
    for place, spec in enumerate(suite.spec.grids):
        _expand_grid(replace(suite, spec=spec), library, overrides, whole, is_further=place > 0)
    if not whole.cells:
        raise _no_cells(suite.spec.name, whole.skipped)
    refuse_unable(whole.cells.values())
    refuse_unfit(whole.cells.values())
    return Plan(
        suite.spec.name,
        tuple(whole.cells.values()),
        frozenset(whole.grid),
        tuple(dict.fromkeys(whole.skipped)),
    )


@dataclass
class _Expanded:
    """What the grids of a suite come to: cells by id and by place, and (task, variant)."""

    cells: dict[str, Cell]
    points: dict[tuple[str, str, str, str, int], Cell]
    grid: dict[tuple[str, str], None]
    skipped: list[Skipped]


def _expand_grid(
    suite: Loaded[Suite],
    library: Library,
    overrides: Overrides,
    whole: _Expanded,
    *,
    is_further: bool,
) -> None:
    """Add the cells of one grid; of methods that were asked for, a further one has the able."""
    spec, cells = suite.spec, whole.cells
    methods = _methods(spec, library, overrides, suite.folder)
    seeds = overrides.seeds if overrides.seeds is not None else spec.seeds
    searches = overrides.control_searches
    searches = spec.control_searches if searches is None else searches
    tasks = {ref: library.task(_reference(ref, suite.folder)) for ref in spec.tasks}
    varied_tasks = {
        ref: variants_with_dictionaries(task, suite, library) for ref, task in tasks.items()
    }
    refuse_idle_exclusions(spec, varied_tasks)
    chosen = is_further and overrides.methods is not None
    for task_ref, task in tasks.items():
        for model_ref, source in _models(task, spec, library, suite.folder):
            grid = [
                (variant, varied, method, role, seed)
                for (variant, varied), (method, role), seed in itertools.product(
                    varied_tasks[task_ref], methods, seeds
                )
                if not excluded(spec, task_ref, model_ref, method.name, varied.spec.evaluation)
                and not (chosen and _unable(method, varied))
            ]
            if not grid:
                continue
            if spec.skip_missing and (
                needs := missing_files(task, source.spec, source.folder, source.trained_on)
            ):
                whole.skipped.append(Skipped(task.spec.name, source.name, needs))
                continue
            runtime = _runtime(spec, overrides, source.spec)
            for variant, varied, method, role, seed in grid:
                host = make_cell(varied, source, method, role, seed, runtime, overrides.limit)
                host = replace(host, variant=variant)
                repeated = searches if role == "method" else ()
                for cell in (host, *(control_cell(host, source, one) for one in repeated)):
                    _refuse_twin(cells.get(cell.id), cell)
                    _refuse_namesake(whole.points.setdefault(cell.place, cell), cell)
                    cells[cell.id] = cell
    for group in varied_tasks.values():
        whole.grid |= {(varied.spec.name, variant): None for variant, varied in group}


def _unable(method: Method, task: Loaded[Task]) -> bool:
    """Whether a method does not know the elements or positions that circuits are made of."""
    choices, kinds = task.spec.evaluation, [method.kind]
    return bool(
        granularity_problem(kinds, choices.granularity)
        or (choices.positions == "per_token" and per_token_problem(kinds))
        or (task.dictionary is not None and tracing_problem(kinds, task.dictionary))
    )


def _no_cells(suite: str, skipped: Sequence[Skipped]) -> HarnessError:
    if not skipped:
        return HarnessError(f"suite {suite!r} excludes every cell of what is asked for")
    lines = [f"  {one.line()}" for one in skipped]
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
        also=(),
    )
    return replace(grid, spec=spec)


def _runtime(spec: Suite, overrides: Overrides, model: Model) -> Runtime:
    runtime, processes = spec.runtime, overrides.processes
    if processes is not None:
        if runtime.processes not in (Runtime().processes, processes):
            raise HarnessError(
                f"suite {spec.name!r} has runtime.processes {runtime.processes}, and "
                f"{processes} are asked for: {started(runtime.processes)}"
            )
        runtime = replace(runtime, processes=processes)
    if overrides.shards is not None:
        runtime = replace(runtime, shards=overrides.shards)
    refuse_other_shards(runtime)
    if overrides.device is not None:
        runtime = replace(runtime, device=overrides.device)
    threads = overrides.threads
    if threads == AUTO:
        threads = threads_for(model)
    return runtime if threads is None else replace(runtime, threads=threads)


def _methods(
    spec: Suite, library: Library, overrides: Overrides, folder: Path
) -> Sequence[tuple[Method, Role]]:
    chosen = [_reference(ref, folder) for ref in spec.methods]
    if overrides.methods is not None:
        chosen = list(
            overrides.methods
        )  # paths on the command line are relative to the working directory
    controls = [_reference(ref, folder) for ref in spec.controls]
    # A control stays one, also where it is asked for by name; each is there once.
    every = {library.method(ref).spec.name: ref for ref in controls}
    specs = [library.method(ref).spec for ref in chosen]
    named: list[tuple[Method, Role]] = [
        (spec, "control" if spec.name in every else "method") for spec in specs
    ]
    chosen_names = {spec.name for spec in specs}
    rest = [ref for name, ref in every.items() if name not in chosen_names]
    return [*named, *((library.method(ref).spec, "control") for ref in rest)]


def _models(
    task: Loaded[Task], spec: Suite, library: Library, folder: Path
) -> Iterator[tuple[str | None, ModelSource]]:
    """Each model that a task is run with, by how the suite names it; None for the task's own."""
    if not spec.models:
        yield None, ModelSource.of(task)
    for ref in spec.models:
        yield ref, ModelSource.named(library.model(_reference(ref, folder)), ref)


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
