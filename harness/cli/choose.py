"""Resolve command-line arguments to suites, plans and run folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click

from harness.cli.check import (
    check_methods,
    check_suite,
    dictionary_issues,
    issues_of,
    notes_of,
)
from harness.cli.say import say
from harness.errors import HarnessError, NotFound
from harness.spec.issues import spec_error
from harness.spec.load import Library, Loaded, spec_kind
from harness.spec.search import is_path

if TYPE_CHECKING:
    from harness.circuits.circuit import Circuit
    from harness.runs.plan import ModelSource, Overrides, Plan
    from harness.runs.plan.dictionaries import PlannedDictionaries
    from harness.runs.plan.skipped import Skipped
    from harness.runs.store.record import StoredCell
    from harness.spec.schema import SpecKind
    from harness.spec.types import ControlSearch, Runtime, Suite, Task

DEFAULT_SUITE = "quickstart"
RESERVED = "models"  # the folder beside the runs


def overrides(
    methods: str | None = None,
    control_searches: str | None = None,
    seeds: str | None = None,
    limit: int | None = None,
    device: Literal["cpu", "cuda"] | None = None,
    threads: int | Literal["auto"] | None = None,
    processes: int | None = None,
    shards: int | None = None,
) -> Overrides:
    """What the options of `options.grid` change in a suite."""
    from harness.runs.plan import Overrides

    return Overrides(
        methods=None if methods is None else listed("--methods", methods),
        control_searches=None if control_searches is None else _searches(control_searches),
        seeds=None if seeds is None else _seeds(seeds),
        limit=limit,
        device=device,
        threads=threads,
        processes=processes,
        shards=shards,
    )


def _searches(text: str) -> tuple[ControlSearch, ...]:
    from harness.spec.types import ControlSearch

    names = () if text.strip() == "none" else listed("--control-searches", text)
    searches = get_args(ControlSearch)
    if unknown := [name for name in names if name not in searches]:
        raise click.UsageError(
            f"--control-searches knows {', '.join(searches)} and none, not {unknown[0]!r}"
        )
    return tuple(one for one in searches if one in names)


def listed(option: str, text: str) -> tuple[str, ...]:
    """Return the items of `a,b,c`; `UsageError` for an empty one."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise click.UsageError(f"{option} has an empty item: {text!r}")
    return parts


def _seeds(text: str) -> tuple[int, ...]:
    seeds = []
    for part in listed("--seeds", text):
        if not (part.isascii() and part.isdecimal()):
            raise click.UsageError(f"--seeds wants whole numbers from 0, as 0,1,2, not {part!r}")
        seeds.append(int(part))
    return tuple(seeds)


def plans(specs: Sequence[str], include: Sequence[Path], changes: Overrides) -> list[Plan]:
    """A plan per suite or task named (default: the quickstart suite).

    A task that is run by itself chooses its threads by the size of its model.
    """
    from harness.runs.plan import expand
    from harness.runs.plan.threads import AUTO

    library = Library(include)
    suites = [_suite(ref, library) for ref in (specs or (DEFAULT_SUITE,))]
    own_threads = replace(changes, threads=changes.threads or AUTO)
    for suite, _ in suites:
        check_suite(suite, library)
        _note_data(suite, library)
    check_methods(changes.methods or (), library)
    expanded = [
        expand(suite, library, changes if is_suite else own_threads) for suite, is_suite in suites
    ]
    names = [plan.name for plan in expanded]
    for name in names:
        if names.count(name) > 1:
            raise HarnessError(f"two of the specs are called {name!r}; run them one at a time")
        if name == RESERVED:
            raise HarnessError(f"a suite or task to run cannot be called {RESERVED!r}: rename it")
    return expanded


def _suite(ref: str, library: Library) -> tuple[Loaded[Suite], bool]:
    """The suite of that name or path, or one that holds the one task of that name or path; and
    whether there is such a suite.
    """
    from harness.runs.plan import single_task

    if is_path(ref):
        is_suite = _kind(library, ref) == "suite"
    else:
        # A broken file counts: loading it reports what is wrong.
        is_suite = library.has("suite", ref) or not library.has("task", ref)
        if is_suite and not library.has("suite", ref):
            # Neither: report both kinds, with similar names of both.
            raise NotFound(f"{_reason(library, 'suite', ref)}\n{_reason(library, 'task', ref)}")
    if is_suite:
        return library.suite(ref), True
    return single_task(library.task(ref), library.suite(DEFAULT_SUITE), ref), False


def _kind(library: Library, ref: str) -> SpecKind:
    """The kind of a file that can be run."""
    path = library.find("task", ref)
    kind = spec_kind(path)
    if kind not in ("suite", "task"):
        raise HarnessError(f"{ref} is a {kind}; only suites and tasks can be run")
    return kind


def _reason(library: Library, kind: Literal["suite", "task"], name: str) -> str:
    try:
        (library.suite if kind == "suite" else library.task)(name)
    except NotFound as error:
        return str(error)
    return ""


def checked_task(library: Library, task: str) -> Loaded[Task]:
    """The task of a name or path; `SpecError` with all that is wrong in it."""
    if issues := issues_of(library, library.find("task", task), "task"):
        raise spec_error(issues)
    return library.task(task)


def planned_dictionaries(
    library: Library, dictionary: str, *, afresh: bool = False
) -> PlannedDictionaries:
    """The dictionaries of a spec's name or path; `SpecError` with all that is wrong in it.

    `afresh`: its `weights` are not looked at.
    """
    from harness.runs.plan.dictionaries import plan_dictionaries
    from harness.spec.types import TrainDictionary

    loaded = library.dictionary(dictionary)
    if afresh and isinstance(loaded.spec, TrainDictionary):
        loaded = replace(loaded, spec=replace(loaded.spec, weights=None))
    if issues := dictionary_issues(loaded):
        raise spec_error(issues)
    return plan_dictionaries(loaded, default_runtime(library))


def model_source(library: Library, task: Loaded[Task], model: str | None) -> ModelSource:
    """The model of a name or path; the task's own if None."""
    from harness.runs.plan import ModelSource

    if model is None:
        return ModelSource.of(task)
    return ModelSource.named(library.model(model), model)


def model_of_circuit(library: Library, task: Loaded[Task], circuit: Circuit) -> ModelSource:
    """The model whose circuit it is, where a suite gave its task another one that has a spec.

    Else the task's own.
    """
    name = circuit.source.get("model", "")
    other = name != model_source(library, task, None).name and library.has("model", name)
    return model_source(library, task, name if other else None)


def default_runtime(library: Library) -> Runtime:
    """That of the default suite, and so of tasks that are run by themselves."""
    return library.suite(DEFAULT_SUITE).spec.runtime


def log(text: str) -> None:
    """Print a line of a log to stderr."""
    from harness.spec.printable import printable

    say(printable(text), err=True)


def note_skipped(skipped: Iterable[Skipped]) -> None:
    """Print to stderr, one line each, what a suite leaves out because files are missing."""
    for one in skipped:
        log(one.line())


def _note_data(suite: Loaded[Suite], library: Library) -> None:
    """Print to stderr what is to be said of the data of a suite's tasks."""
    from harness.spec.printable import shown_path

    for ref in dict.fromkeys(ref for grid in suite.spec.grids for ref in grid.tasks):
        path = library.find("task", ref, suite.folder)
        for note in notes_of(library, path, "task"):
            log(f"{shown_path(path)}: note: {note}")


def run_folders(runs: Sequence[str], results: Path) -> list[Path]:
    """Folders of the named runs, or of all runs in the results folder; `NotFound` if none."""
    from harness.runs.store.record import find_run, runs_root

    if runs:
        return [find_run(results, run) for run in runs]
    folders = runs_root(results)
    if not folders:
        raise NotFound(f"{results} holds no run yet; `harness run` makes one")
    return folders


def read_runs(folders: Iterable[Path]) -> tuple[list[StoredCell], list[str]]:
    """The cells of runs, and what is damaged: records of runs that are left out, and cells.

    Says on stderr what the runs left out because files are missing. Raises `StoreCorrupt` if no
    run can be read.
    """
    from harness.errors import StoreCorrupt
    from harness.runs.store.record import faults_of, load_cells, skipped_of

    cells: list[StoredCell] = []
    unreadable: list[StoreCorrupt] = []
    readable = []
    for folder in folders:
        try:
            cells += load_cells(folder)
            note_skipped(skipped_of(folder))
            readable.append(folder)
        except StoreCorrupt as error:
            unreadable.append(error)
    if unreadable and not readable:
        raise unreadable[0]
    return cells, [*map(str, unreadable), *faults_of(cells)]


def note_faults(faults: Sequence[str]) -> int:
    """Print what is damaged to stderr, one line each; the exit code that says so, or 0."""
    from harness.errors import StoreCorrupt

    for fault in faults:
        log(f"corrupt: {fault}")
    return StoreCorrupt.exit_code if faults else 0
