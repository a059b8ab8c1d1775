"""Find all mistakes in a task's data that can be detected without training, with their places.

Opening a task raises on the same mistakes; here they are all found and tied to the lines of the
spec. Neither torch nor a model is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from harness.datasets.classes import no_next_token
from harness.datasets.corpus.open import unfit_corpus
from harness.datasets.kinds import data_kind, kind_of
from harness.datasets.locate import find, needed
from harness.datasets.open import open_data
from harness.datasets.pairs import PromptPairs, TaskData, mixed_lengths, read_too_early, unfit
from harness.datasets.problems import Place, Problem
from harness.datasets.splits import fitting_shares
from harness.datasets.stream import TooFew
from harness.datasets.tokenizers import needs_model
from harness.datasets.tokenizers.choose import file_problems, is_file, spec_problems
from harness.datasets.tokenizers.model import missing_tokenizer, no_tokenizer, on_this_machine
from harness.datasets.unchanged import unchanged_answers
from harness.errors import HarnessError
from harness.spec.data_kinds import PACKAGES
from harness.spec.printable import quoted
from harness.spec.types import CompileModel, LoadModel, Model, Task, TrainModel

if TYPE_CHECKING:
    from harness.spec.issues import Issue
    from harness.spec.load import Loaded
    from harness.spec.yaml.source import Source

MOST_TOKENS = 1 << 27
"""Of the pairs that a task asks for, each padded to the longest prompt."""


def check_task(loaded: Loaded[Task], other: Loaded[Model] | None = None) -> list[Issue]:
    """Return the mistakes in the task's data and tokenizer, in the order they were found.

    `other`: the model it is run with, whose tokenizer it has, in place of its own.

    A missing tokenizer file is no mistake (`needed_files` names it): then everything is checked
    that does not need tokens. A tokenizer that is the model's is that of the task's
    own model, where it lies in a folder; models of the hub are not fetched for this.
    """
    loaded = on_this_machine(loaded, loaded.spec.model, loaded.folder)
    task = loaded.spec
    kind = kind_of(task.data)
    problems = _tokenizer_problems(task)
    if text := kind.unfit_answers(task):
        return [_issue(loaded.source, *one) for one in (*problems, (("answers",), text))]
    if not problems and is_file(task.tokenizer) and not _without_file(loaded):
        opened = file_problems(task.tokenizer, loaded.folder)
        problems += [(("tokenizer", key), text) for key, text in opened]
    arguments = kind.arguments(task, loaded.folder)
    if problems or _without_file(loaded):
        problems += kind.problems_without_tokens(*arguments)
    else:
        problems += kind.problems(*arguments)
    problems += _model_problems(task)
    if _without_file(loaded):
        return [_issue(loaded.source, place, text) for place, text in problems]
    if not problems:
        problems += _opened_problems(task, lambda: open_data(loaded))
    if not problems and other is None and loaded.trained_on is not None:
        unable = training_problem(loaded, loaded.trained_on)
        problems += [] if unable is None else [(("model", "task"), unable)]
    model, folder = (task.model, loaded.folder) if other is None else (other.spec, other.folder)
    if not problems and (text := corpus_problem(loaded, model, folder)):
        problems.append((("model",), text))
    return [_issue(loaded.source, place, text) for place, text in problems]


def task_notes(loaded: Loaded[Task]) -> list[str]:
    """Return what should be said of the data of a sound task; nothing where files are absent."""
    loaded = on_this_machine(loaded, loaded.spec.model, loaded.folder)
    if _without_file(loaded):
        return []
    notes = kind_of(loaded.spec.data).notes
    return [] if notes is None else list(notes(open_data(loaded)))


def warnings_of_task(loaded: Loaded[Task]) -> list[Issue]:
    """Return what is no mistake of a task without mistakes, but makes its numbers mean nothing."""
    loaded = on_this_machine(loaded, loaded.spec.model, loaded.folder)
    if _without_file(loaded):
        return []
    kind = kind_of(loaded.spec.data)
    # A program says what is right after every prompt, so that its twins differ in that.
    has_program = kind.program is not None
    if has_program and kind.notes is None:
        return []
    opened = open_data(loaded)
    notes = () if kind.notes is None else kind.notes(opened)
    texts: list[Problem] = [(("data",), note) for note in notes]
    if not has_program and (text := unchanged_answers(opened)) is not None:
        place = ("data", "corruption") if hasattr(loaded.spec.data, "corruption") else ("data",)
        texts.append((place, text))
    return [replace(loaded.source.issue(place, text), level="warning") for place, text in texts]


def needed_files(loaded: Loaded[Task]) -> list[str]:
    """Return a message for every external file that the task names and that does not exist."""
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
    if isinstance(model, TrainModel) and model.corpus is not None:
        wanted.append((model.corpus.tokenizer, folder))
    absent = {
        (path, at): needed(path, at)
        for path, at in wanted
        if path is not None and find(path, at) is None
    }
    if isinstance(model, LoadModel) and model.path and needs_model(loaded.spec.tokenizer):
        lacking = missing_tokenizer(model, folder)
        absent |= {} if lacking is None else {(model.path, folder): lacking}
    messages = {
        text: None
        for (path, at), text in absent.items()
        if not any(other != path and PurePath(other).is_relative_to(path) for other, _ in absent)
    }
    return list(messages)


def _issue(source: Source, place: Place, text: str) -> Issue:
    # Of an unknown parameter the name is wrong, not the value.
    if text.startswith("unknown parameter"):
        return source.issue(place[:-1], text, at_key=str(place[-1]))
    return source.issue(place, text)


def _tokenizer_problems(task: Task) -> list[Problem]:
    problems: list[Problem] = [
        (("tokenizer", key), text) for key, text in spec_problems(task.tokenizer)
    ]
    if needs_model(task.tokenizer) and (text := no_tokenizer(task.model)):
        problems.append((("tokenizer", "kind"), text))
    return problems


def _without_file(loaded: Loaded[Task]) -> bool:
    """Whether the vocabulary is a missing file, or belongs to a missing model."""
    tokenizer = loaded.spec.tokenizer
    path = tokenizer.path
    return needs_model(tokenizer) or (path is not None and find(path, loaded.folder) is None)


def _model_problems(task: Task) -> list[Problem]:
    model = task.model
    if task.answers and isinstance(model, TrainModel) and model.training.objective != "answer":
        return [(("model", "training", "objective"), str(no_next_token()))]
    if not isinstance(task.model, CompileModel) or kind_of(task.data).program is not None:
        return []
    able = " or ".join(repr(name) for name in PACKAGES if data_kind(name).program is not None)
    text = f"a model can only be compiled from data of kind {able}, not {task.data.kind!r}"
    return [(("model", "kind"), text)]


def _opened_problems(task: Task, opened: Callable[[], TaskData]) -> list[Problem]:
    """Return problems that only drawing shows: empty splits, too few pairs, several lengths."""
    try:
        data = opened()
    except HarnessError as error:
        return [(("data",), str(error))]
    problems: list[Problem] = []
    choices = task.evaluation
    repeats, own = choices.discovery_repeats, choices.positions == "per_token"
    drawn: list[PromptPairs] = []
    few: int | None = None  # the first problem that other shares may mend
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
        if n * data.longest > MOST_TOKENS:
            many = f"{n:,} pairs of up to {data.longest:,} tokens"
            problems.append((place, f"{many} are too many to be held at once; ask for fewer"))
            continue
        try:
            pairs = data.pairs(split, n, 0, at_most=repeats and split == "train")
        except HarnessError as error:
            few = len(problems) if few is None and isinstance(error, TooFew) else few
            problems.append((place if _any_pair(data, split) else ("data", "shares"), str(error)))
        else:
            drawn += [pairs] if split in wanted else []
    asked = {name: n for name, (n, _) in wanted.items()}
    if few is not None and (advice := _shares_advice(data, asked)):
        at, said = problems[few]
        problems[few] = (at, f"{said}; {advice}")
    if own and (text := mixed_lengths(*drawn)):
        problems.append((("evaluation", "positions"), text))
    if drawn and _is_causal(task.model) and all(map(read_too_early, drawn)):
        text = (
            "no prompt differs from its twin up to where its answers are read, and the model is "
            "causal: it cannot know; read later, or set architecture.causal: false"
        )
        problems.append((("data", "read") if hasattr(task.data, "read") else ("data",), text))
    return problems


def _is_causal(model: Model) -> bool:
    """Whether a position sees only earlier ones, where the spec says it."""
    return isinstance(model, TrainModel) and model.architecture.causal


def _shares_advice(data: TaskData, wanted: Mapping[str, int]) -> str | None:
    """Which shares would give both splits enough prompts, where shares divide few prompts."""
    listed = getattr(data, "shared_prompts", None)
    hashes = None if listed is None else listed()
    if hashes is None:
        return None
    shares = fitting_shares(hashes, wanted)
    if shares is None:
        asked = " and ".join(f"{n} for {split}" for split, n in wanted.items())
        return f"there are {len(hashes)} in all, too few for {asked}"
    each = ", ".join(f"{split}: {share:g}" for split, share in shares.items())
    return f"with `shares: {{{each}}}` under `data` there are enough"


def pair_problems(task: Loaded[Task], model: Loaded[Model]) -> list[str]:
    """Return why a task cannot be run with a model that is not its own.

    A model may be trained on a task that does not fit, or the task asks for the model's tokenizer
    and there is none, or its prompts and answers do not suit it. None of this can be told where
    files are absent.
    """
    if model.trained_on is not None:
        text = training_problem(task, model.trained_on)
        return [] if text is None else [text]
    if not needs_model(task.spec.tokenizer):
        text = corpus_problem(task, model.spec, model.folder)
        return [] if text is None else [text]
    if text := no_tokenizer(model.spec):
        return [f"tokenizer: {text}"]
    paired = on_this_machine(task, model.spec, model.folder)
    if needs_model(paired.spec.tokenizer):
        return []
    return [f"{one.where}: {one.message}" for one in check_task(paired, model)]


def training_problem(loaded: Loaded[Task], other: Loaded[Task]) -> str | None:
    """Return why a model that is trained on another task cannot do this one, if so.

    None too where either lacks an external file: that is no mistake.
    """
    brought = [(one.spec.tokenizer.path, one.folder) for one in (loaded, other)]
    if any(path is not None and find(path, at) is None for path, at in brought):
        return None
    name = quoted(other.spec.name)
    if needs_model(other.spec.tokenizer):
        return f"task {name} has the tokenizer of its model, so no model can be trained on it"
    if needs_model(loaded.spec.tokenizer):
        return "kind 'model' of its tokenizer needs a model that is loaded, not one that is trained"
    try:
        taught = open_data(other)
    except HarnessError as error:
        return f"task {name} is broken: {error}"
    text = unfit(taught, open_data(loaded))
    return None if text is None else f"a model of task {name} cannot do this one: {text}"


def corpus_problem(loaded: Loaded[Task], model: Model, folder: Path) -> str | None:
    """Return why a model that is trained on a corpus cannot do a task, if so; `folder`: its spec's.

    None too for other models, and where the corpus's tokenizer is missing.
    """
    if not isinstance(model, TrainModel) or model.corpus is None:
        return None
    if find(model.corpus.tokenizer, folder) is None or _without_file(loaded):
        return None
    try:
        return unfit_corpus(model.corpus, folder, open_data(loaded))
    except HarnessError as error:
        return str(error)


def _any_pair(data: TaskData, split: str) -> bool:
    try:
        data.pairs(split, 1, 0)
    except HarnessError:
        return False
    return True
