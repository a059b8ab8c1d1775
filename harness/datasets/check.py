"""Everything about a task's data that can be known without training, as issues with places.

Opening a task raises on the same mistakes; here they are all found and tied to the lines of the
spec. Neither torch nor a model is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from harness.datasets.check_template import template_problems
from harness.datasets.files import open_file
from harness.datasets.locate import find, needed
from harness.datasets.open import open_data
from harness.datasets.pairs import PromptPairs, TaskData, mixed_lengths, unfit
from harness.datasets.programs_task import program_problems
from harness.datasets.registry import generator, wrong_tokenizer
from harness.datasets.splits import share_problems
from harness.datasets.template_plan import Place, Problem
from harness.datasets.template_read import read_plan
from harness.errors import HarnessError
from harness.spec.printable import quoted
from harness.spec.types import (
    CompileModel,
    FileData,
    GeneratorData,
    LoadModel,
    Model,
    ProgramData,
    Task,
    TemplateData,
)

if TYPE_CHECKING:
    from harness.spec.issues import Issue
    from harness.spec.load import Loaded
    from harness.spec.yaml.source import Source


def check_task(loaded: Loaded[Task]) -> list[Issue]:
    """Return the mistakes in the task's data and tokenizer, in the order they were found.

    A tokenizer file that is absent is no mistake (`needed_files` names it): then everything is
    checked that can be known without tokens.
    """
    task = loaded.spec
    problems: list[Problem] = [(("tokenizer", "path"), text) for text in _tokenizer_problems(task)]
    path = task.tokenizer.path
    if not problems and path and find(path, loaded.folder) is None:
        return [_issue(loaded.source, *one) for one in _problems_without_tokens(loaded)]
    if isinstance(task.data, GeneratorData):
        problems += _generator_problems(task.data, task)
    elif isinstance(task.data, TemplateData):
        problems += template_problems(task.data, task.tokenizer, loaded.folder)
    elif isinstance(task.data, ProgramData):
        problems += program_problems(task.data, task.tokenizer)
    elif not problems:
        problems += _file_problems(task.data, loaded)
    if isinstance(task.model, CompileModel) and not isinstance(task.data, ProgramData):
        text = f"a model can only be compiled from data of kind 'program', not {task.data.kind!r}"
        problems.append((("model", "kind"), text))
    if not problems:
        problems += _opened_problems(task, lambda: open_data(loaded))
    if not problems and loaded.trained_on is not None:
        unable = training_problem(loaded, loaded.trained_on)
        problems += [] if unable is None else [(("model", "task"), unable)]
    return [_issue(loaded.source, place, text) for place, text in problems]


def needed_files(loaded: Loaded[Task]) -> list[str]:
    """Return a message for every file of others that the task names and that is not there."""
    return needed_with(loaded, loaded.spec.model, loaded.folder, loaded.trained_on)


def needed_with(
    loaded: Loaded[Task], model: Model, folder: Path, trained_on: Loaded[Task] | None
) -> list[str]:
    """Return `needed_files` of a task that is run with this model, whose spec is in `folder`.

    These are its tokenizer, that of the task that the model is `trained_on`, and the folder of a
    model to load: no task ships them. A folder that the tokenizer is to lie in is not named again.
    """
    wanted = [(one.spec.tokenizer.path, one.folder) for one in (loaded, trained_on) if one]
    wanted.append((model.path if isinstance(model, LoadModel) else None, folder))
    absent = {
        (path, at): needed(path, at)
        for path, at in wanted
        if path is not None and find(path, at) is None
    }
    messages = {
        text: None
        for (path, at), text in absent.items()
        if not any(other != path and PurePath(other).is_relative_to(path) for other, _ in absent)
    }
    return list(messages)


def _problems_without_tokens(loaded: Loaded[Task]) -> list[Problem]:
    data = loaded.spec.data
    if isinstance(data, TemplateData):
        return read_plan(data, loaded.folder)[1]
    if isinstance(data, GeneratorData):
        return _generator_problems(data, loaded.spec)
    if isinstance(data, ProgramData):
        return program_problems(data, loaded.spec.tokenizer)
    return [(("data", "shares"), text) for text in share_problems(data.shares)]


def _issue(source: Source, place: Place, text: str) -> Issue:
    # Of an unknown parameter the name is wrong, not the value.
    if text.startswith("unknown parameter"):
        return source.issue(place[:-1], text, at_key=str(place[-1]))
    return source.issue(place, text)


def _tokenizer_problems(task: Task) -> list[str]:
    if task.tokenizer.kind == "file" and not task.tokenizer.path:
        return ["a tokenizer of kind 'file' needs `path`, a tokenizer.json"]
    if task.tokenizer.kind != "file" and task.tokenizer.path:
        return [f"`path` is only for kind 'file', not {task.tokenizer.kind!r}"]
    return []


def _generator_problems(data: GeneratorData, task: Task) -> list[Problem]:
    problems: list[Problem] = [(("data", "shares"), text) for text in share_problems(data.shares)]
    try:
        found = generator(data.generator)
    except HarnessError as error:
        return [*problems, (("data", "generator"), str(error))]
    if task.tokenizer.kind not in found.tokenizers:
        text = wrong_tokenizer(data.generator, found.tokenizers, task.tokenizer.kind)
        problems.append((("tokenizer", "kind"), text))
    problems += [(("data", "params", name), text) for name, text in found.problems(data.params)]
    return problems


def _file_problems(data: FileData, loaded: Loaded[Task]) -> list[Problem]:
    problems: list[Problem] = [(("data", "shares"), text) for text in share_problems(data.shares)]
    if problems:
        return problems
    try:
        open_file(data, loaded.spec.tokenizer, loaded.folder)
    except HarnessError as error:
        return [(("data", "path"), str(error))]
    return []


def _opened_problems(task: Task, opened: Callable[[], TaskData]) -> list[Problem]:
    """Return what only drawing shows: empty splits, too few pairs, prompts of several lengths."""
    try:
        data = opened()
    except HarnessError as error:
        return [(("data",), str(error))]
    problems: list[Problem] = []
    choices = task.evaluation
    repeats, own = choices.discovery_repeats, choices.positions == "per_token"
    drawn: list[PromptPairs] = []
    wanted = {
        # One prompt is enough to repeat; of lengths only those show that are drawn.
        "train": (
            1 if repeats and not own else choices.discovery_pairs,
            ("evaluation", "discovery_pairs"),
        ),
        "test": (choices.test_pairs, ("evaluation", "test_pairs")),
    }
    for split in data.splits:
        n, place = wanted.get(split, (1, ("data", "shares")))
        try:
            pairs = data.pairs(split, n, 0, at_most=repeats and split == "train")
        except HarnessError as error:
            problems.append((place if _any_pair(data, split) else ("data", "shares"), str(error)))
        else:
            drawn += [pairs] if split in wanted else []
    if own and (text := mixed_lengths(*drawn)):
        problems.append((("evaluation", "positions"), text))
    return problems


def training_problem(loaded: Loaded[Task], other: Loaded[Task]) -> str | None:
    """Return why a model that is trained on another task cannot do this one, if so.

    None too where either lacks a file of others: that is no mistake.
    """
    brought = [(one.spec.tokenizer.path, one.folder) for one in (loaded, other)]
    if any(path is not None and find(path, at) is None for path, at in brought):
        return None
    name = quoted(other.spec.name)
    try:
        taught = open_data(other)
    except HarnessError as error:
        return f"task {name} is broken: {error}"
    text = unfit(taught, open_data(loaded))
    return None if text is None else f"a model of task {name} cannot do this one: {text}"


def _any_pair(data: TaskData, split: str) -> bool:
    try:
        data.pairs(split, 1, 0)
    except HarnessError:
        return False
    return True
