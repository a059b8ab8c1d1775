"""Find all mistakes of a spec that can be detected without training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.errors import HarnessError, SpecError
from harness.spec.issues import Issue, spec_error, unknown
from harness.spec.load import Library, Loaded, spec_kind
from harness.spec.printable import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from harness.spec.schema import SpecKind
    from harness.spec.types import DictionarySpec, Method, Model, Suite, Task


def issues_of(library: Library, path: Path, kind: SpecKind | None = None) -> list[Issue]:
    """All mistakes of one file; its data is checked only if its form is valid."""
    try:
        kind = kind or spec_kind(path)
        if issues := library.issues(path, kind):
            return issues
        return _CHECKS[kind](library, str(path))
    except SpecError as error:
        return cast("list[Issue]", error.issues)


def warnings_of(library: Library, path: Path, kind: SpecKind | None = None) -> list[Issue]:
    """What is no mistake of a file without mistakes, but makes its numbers mean nothing."""
    from harness.datasets.check import warnings_of_task

    is_task = (kind or spec_kind(path)) == "task"
    return warnings_of_task(library.task(str(path))) if is_task else []


def needs_of(library: Library, path: Path, kind: SpecKind | None = None) -> list[str]:
    """Files that a valid task needs but does not ship: a tokenizer, a checkpoint."""
    from harness.runs.plan.skipped import missing_files

    try:
        sound = (kind or spec_kind(path)) == "task" and not library.issues(path, "task")
    except SpecError:
        return []
    if not sound:
        return []
    task = library.task(str(path))
    return list(missing_files(task, task.spec.model, task.folder, task.trained_on))


def notes_of(library: Library, path: Path, kind: SpecKind | None = None) -> list[str]:
    """What should be said of the data of a sound task, though it is no mistake."""
    from harness.datasets.check import task_notes

    try:
        sound = (kind or spec_kind(path)) == "task" and not library.issues(path, "task")
        return task_notes(library.task(str(path))) if sound else []
    except HarnessError:
        return []  # reported as mistakes


def check_suite(suite: Loaded[Suite], library: Library) -> None:
    """Refuse a suite with mistakes in its specs, or in a task with a model: raises `SpecError`."""
    wanted: dict[tuple[SpecKind, str], None] = {}
    for spec in suite.spec.grids:
        wanted |= {("task", ref): None for ref in spec.tasks}
        wanted |= {("method", ref): None for ref in (*spec.methods, *spec.controls)}
        wanted |= {("model", ref): None for ref in spec.models}
    _check(library, [(kind, library.find(kind, ref, suite.folder)) for kind, ref in wanted])
    issues = [
        issue for grid, place in _grids(suite) for issue in _unable_tasks(grid, place, library)
    ]
    if issues:
        raise spec_error(issues)


def check_methods(refs: Sequence[str], library: Library) -> None:
    """Refuse methods with mistakes, by name or by path from here: raises as `check_suite` does."""
    _check(library, [("method", library.find("method", ref)) for ref in refs])


def _check(library: Library, files: Iterable[tuple[SpecKind, Path]]) -> None:
    if issues := [issue for kind, path in files for issue in issues_of(library, path, kind)]:
        raise spec_error(issues)


def _task_issues(task: Loaded[Task]) -> list[Issue]:
    from harness.datasets.check import check_task
    from harness.runs.plan.features import count_place, count_problem
    from harness.runs.plan.fit import fit_problem, lengths_problem, weights_problem

    if issues := check_task(task):
        return issues
    model = ("model", "path") if task.spec.model.kind == "load" else ("model",)
    problems = [
        (model, fit_problem(task, task.spec.model, task.folder)),
        (model, weights_problem(task.spec.model, task.folder, task.trained_on or task)),
        (("evaluation", "ablation"), lengths_problem(task)),
        (("evaluation", *count_place(task)), count_problem(task)),
    ]
    return [task.source.issue(place, text) for place, text in problems if text]


def _model_issues(model: Loaded[Model]) -> list[Issue]:
    """Why a model's folder cannot be loaded, or holds weights of another spec, if it is there."""
    from harness.runs.plan.fit import model_problem, weights_problem

    problems = [
        (("path",), model_problem(model.spec, model.folder)),
        (("weights",), weights_problem(model.spec, model.folder, model.trained_on)),
    ]
    return [model.source.issue(place, text) for place, text in problems if text]


def dictionary_issues(loaded: Loaded[DictionarySpec]) -> list[Issue]:
    """Sites of layers that the model, if its shape is stated, does not have; others' weights."""
    from harness.runs.plan.dictionaries import dictionary_weights_problem
    from harness.spec.types import LoadDictionary, TrainModel

    spec, task = loaded.spec, loaded.task
    assert task is not None
    model = task.spec.model if loaded.model is None else loaded.model.spec
    issues = []
    if not isinstance(spec, LoadDictionary) and isinstance(model, TrainModel):
        layers = model.architecture.n_layers
        issues = [
            loaded.source.issue(("sites", index), f"{name} is not in the model's {layers} layers")
            for index, name in enumerate(spec.sites)
            if (digits := name.partition(".")[0][1:]).isdigit() and int(digits) >= layers
        ]
    if not issues and (problem := dictionary_weights_problem(loaded)):
        issues.append(loaded.source.issue(("weights",), problem))
    return issues


def _suite_issues(suite: Loaded[Suite], library: Library) -> list[Issue]:
    """Methods that do not support what a task asks for, and models that do not fit a task."""
    return [
        issue
        for grid, place in _grids(suite)
        for issue in (
            *_unable_methods(grid, place, library),
            *_unable_tasks(grid, place, library),
        )
    ]


_Place = tuple[str | int, ...]


def _unable_tasks(suite: Loaded[Suite], place: _Place, library: Library) -> list[Issue]:
    """Models and evaluations of the suite that do not suit a task, whatever the method."""
    from harness.runs.plan.features import count_issues

    return [
        *_unable_models(suite, place, library),
        *_unable_lengths(suite, place, library),
        *count_issues(suite, place, library),
    ]


def _grids(suite: Loaded[Suite]) -> Iterator[tuple[Loaded[Suite], _Place]]:
    """The suite's own grid and each further one as a suite, with its place in the file."""
    for index, spec in enumerate(suite.spec.grids, start=-1):
        yield replace(suite, spec=spec), () if index < 0 else ("also", index)


def _unable_lengths(suite: Loaded[Suite], place: _Place, library: Library) -> list[Issue]:
    """Ablations of the suite that the lengths of a task's prompts do not allow."""
    from harness.runs.plan.fit import lengths_problem
    from harness.runs.plan.variants import variants

    problems = []
    for ref in suite.spec.tasks:
        try:
            task = library.task(str(library.find("task", ref, suite.folder)))
            varied = [one for _, one in variants(task, suite.spec)]
        except HarnessError:
            continue  # reported for that file
        own = task.spec.evaluation.ablation
        others = {one.spec.evaluation.ablation: one for one in varied}
        problems += [
            (task.spec.name, lengths_problem(one)) for name, one in others.items() if name != own
        ]
    return [
        suite.source.issue((*place, "evaluations"), f"task {quoted(name)}: {text}")
        for name, text in problems
        if text
    ]


def _unable_models(suite: Loaded[Suite], place: _Place, library: Library) -> list[Issue]:
    """Models of the suite that do not fit a task: by their training, tokenizer or files."""
    from harness.datasets.check import pair_problems
    from harness.runs.plan.fit import fit_problem
    from harness.runs.plan.variants import apart

    spec, folder = suite.spec, suite.folder
    issues = []
    for index, ref in enumerate(spec.models):
        try:
            model = library.model(str(library.find("model", ref, folder)))
            tasks = [
                library.task(str(library.find("task", one, folder)))
                for one in spec.tasks
                if not apart(spec, one, ref)
            ]
            problems = [(task, text) for task in tasks for text in pair_problems(task, model)]
            problems = problems or [
                (task, text)
                for task in tasks
                if (text := fit_problem(task, model.spec, model.folder))
            ]
        except HarnessError:
            continue  # reported for that file
        issues += [
            suite.source.issue((*place, "models", index), f"task {quoted(task.spec.name)}: {text}")
            for task, text in problems
        ]
    return issues


def _unable_methods(suite: Loaded[Suite], place: _Place, library: Library) -> list[Issue]:
    """Methods that do not support the evaluation of a task in some cell of the suite."""
    from harness.runs.plan.variants import excluded, variants_with_dictionaries

    spec, here = suite.spec, suite.folder
    try:
        tasks = [library.task(str(library.find("task", ref, here))) for ref in spec.tasks]
        refs = [("methods", *one) for one in enumerate(spec.methods)]
        refs += [("controls", *one) for one in enumerate(spec.controls)]
        methods = [library.method(str(library.find("method", ref, here))) for *_, ref in refs]
        models = [library.model(str(library.find("model", ref, here))) for ref in spec.models]
        varied = [variants_with_dictionaries(task, suite, library) for task in tasks]
    except SpecError:
        return []  # a broken task, method, model or dictionary is no mistake of the suite
    of_suite: list[tuple[str | None, Model, Path]] = [
        (ref, model.spec, model.folder) for ref, model in zip(spec.models, models, strict=True)
    ]
    cells = [
        (ref, one, *model)
        for ref, task, variants in zip(spec.tasks, tasks, varied, strict=True)
        for _, one in variants
        for model in of_suite or [(None, task.spec.model, task.folder)]
    ]
    # Each reason once for a method, however many cells it holds for.
    return [
        suite.source.issue((*place, key, index), problem)
        for (key, index, _), method in zip(refs, methods, strict=True)
        for problem in dict.fromkeys(
            problem
            for ref, task, model_ref, model, folder in cells
            if not excluded(spec, ref, model_ref, method.spec.name, task.spec.evaluation)
            for problem in _unable(method.spec, task, model, folder)
        )
    ]


def _normalises_heads(model: Model, folder: Path) -> bool:
    """Whether a model is an available checkpoint whose layers normalise the outputs of heads."""
    from harness.datasets.locate import find
    from harness.models.loading.folder import CONFIG, has_post_norms
    from harness.spec.types import LoadModel

    if not isinstance(model, LoadModel) or model.path is None:
        return False
    path = find(model.path, folder)
    try:
        there = path is not None and (path / CONFIG).is_file()
        return path is not None and there and has_post_norms(path, model.format)
    except HarnessError:
        return False  # reported for the model


def _unable(method: Method, task: Loaded[Task], model: Model, folder: Path) -> Iterator[str]:
    """Why a method cannot be used with the choices of a cell's task and on its model."""
    from harness.discovery.refusals import (
        granularity_problem,
        objective_problem,
        per_token_problem,
        post_norms_problem,
        sparsity_problem,
        tracing_problem,
    )

    choices = task.spec.evaluation
    if problem := sparsity_problem(choices, model):
        yield problem
    if (problem := post_norms_problem([method.kind])) and _normalises_heads(model, folder):
        yield problem
    if problem := granularity_problem([method.kind], choices.granularity):
        yield problem
    if task.dictionary and (problem := tracing_problem([method.kind], task.dictionary)):
        yield problem
    if choices.positions == "per_token" and (problem := per_token_problem([method.kind])):
        yield problem
    if problem := objective_problem(method.kind, method.params, choices.metric, choices.ablation):
        yield problem


def _method_issues(method: Loaded[Method]) -> list[Issue]:
    from harness.discovery.refusals import objective_problem
    from harness.discovery.registry import built_in, kinds

    registered = kinds()
    kind = method.spec.kind
    if kind not in registered:
        return [method.source.issue(("kind",), unknown("kind of method", kind, registered))]
    try:
        problem = objective_problem(kind, method.spec.params)
    except HarnessError as error:  # a package that cannot be imported
        return [method.source.issue(("kind",), str(error))]
    if problem:
        return [method.source.issue(("params", "objective"), problem)]
    return [] if kind in built_in() else _params_issues(method, kind)


def _params_issues(method: Loaded[Method], kind: str) -> list[Issue]:
    """What is wrong with the params of a package's method; built-in ones are in the schema."""
    from harness.discovery.plug_in_params import check_params
    from harness.discovery.registry import make_method, params_of_plug_in

    try:
        taken = params_of_plug_in(kind)
        if taken is not None and (issues := check_params(method.source, kind, taken)):
            return issues
        make_method(kind, method.spec.params)
    except HarnessError as error:
        return [method.source.issue(("params",), str(error))]
    return []


_CHECKS: Mapping[SpecKind, Callable[[Library, str], list[Issue]]] = {
    "task": lambda library, path: _task_issues(library.task(path)),
    "model": lambda library, path: _model_issues(library.model(path)),
    "dictionary": lambda library, path: dictionary_issues(library.dictionary(path)),
    "method": lambda library, path: _method_issues(library.method(path)),
    "suite": lambda library, path: _suite_issues(library.suite(path), library),
}
"""What is checked of a file of each kind whose form is valid."""
