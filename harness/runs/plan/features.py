"""How many features the dictionaries of a spec have in all, as far as specs and files tell.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import HarnessError
from harness.runs.plan.fit import local_config
from harness.runs.plan.variants import excluded, variants_with_dictionaries
from harness.spec.issues import Issue
from harness.spec.load import Library, Loaded
from harness.spec.printable import quoted
from harness.spec.types import DictionarySpec, LoadDictionary, Suite, Task, TrainModel

_GROUPS = ("attention", "mlp")


def count_problem(task: Loaded[Task]) -> str | None:
    """Why no circuit has as many features as the task's `counts` ask for; None if there is one.

    None also where it cannot be told: of dictionaries that are loaded, and of models whose number
    of layers is not known yet.
    """
    choices, dictionaries = task.spec.evaluation, task.dictionary
    if choices.counts is None or dictionaries is None:
        return None
    spec, sites = dictionaries.spec, _number_of_sites(dictionaries)
    if sites is None or isinstance(spec, LoadDictionary):
        return None
    with_errors = choices.component == "features_and_errors"
    there = sites * (spec.dictionary.features + with_errors)
    if choices.counts[-1] <= there:
        return None
    errors = " and an error" if with_errors else ""
    return (
        f"a circuit of {choices.counts[-1]} elements is asked for, and the dictionary "
        f"{quoted(dictionaries.path.stem)} has {there}: {spec.dictionary.features} features"
        f"{errors} of each of {sites} sites"
    )


def count_place(task: Loaded[Task]) -> tuple[str | int, ...]:
    """Where an evaluation says the largest of its counts."""
    return ("counts", len(task.spec.evaluation.counts or ()) - 1)


def count_issues(
    suite: Loaded[Suite], place: Sequence[str | int], library: Library
) -> Iterator[Issue]:
    """Evaluations of a suite that ask for more features than dictionaries have.

    `place`: that of the suite's grid in its file. What is a task's own mistake, or broken, is
    reported for that file.
    """
    spec = suite.spec
    for index, change in enumerate(spec.evaluations):
        alone = replace(suite, spec=replace(spec, evaluations=(change,)))
        for ref in spec.tasks:
            try:
                task = library.task(str(library.find("task", ref, suite.folder)))
                ((_, varied),) = variants_with_dictionaries(task, alone, library)
            except HarnessError:
                continue
            problem = count_problem(varied)
            if problem is None or problem == count_problem(task) or _left_out(spec, ref, varied):
                continue
            key = () if change.counts is None else count_place(varied)
            text = f"task {quoted(task.spec.name)}: {problem}"
            yield suite.source.issue((*place, "evaluations", index, *key), text)


def _left_out(spec: Suite, ref: str, task: Loaded[Task]) -> bool:
    """Whether a suite excludes every cell of a task under an evaluation."""
    return all(
        excluded(spec, ref, model, Path(method).stem, task.spec.evaluation)
        for model in (spec.models or (None,))
        for method in (*spec.methods, *spec.controls)
    )


def _number_of_sites(dictionaries: Loaded[DictionarySpec]) -> int | None:
    """How many sites a spec names, with those of `attention` and `mlp`; None if it does not say."""
    spec = dictionaries.spec
    if isinstance(spec, LoadDictionary):
        return None
    groups = [name for name in spec.sites if name in _GROUPS]
    single = len(spec.sites) - len(groups)
    if not groups:
        return single
    layers = _layers(dictionaries)
    return None if layers is None else single + len(groups) * layers


def _layers(dictionaries: Loaded[DictionarySpec]) -> int | None:
    """Layers of the model that dictionaries are of; None if neither spec nor files say."""
    assert dictionaries.task is not None
    if dictionaries.model is None:
        model, folder = dictionaries.task.spec.model, dictionaries.task.folder
    else:
        model, folder = dictionaries.model.spec, dictionaries.model.folder
    if isinstance(model, TrainModel):
        return model.architecture.n_layers
    try:
        config = local_config(model, folder)
    except HarnessError:
        return None  # reported for the model
    return None if config is None else config.n_layers
