"""Tasks, their models and their prompt pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from harness.api.changes import changed
from harness.datasets.files import pairs_of_rows
from harness.datasets.kinds import numeric_answers
from harness.datasets.open import open_data
from harness.datasets.pairs import PromptPairs, TaskData
from harness.datasets.tokenizers import needs_model
from harness.errors import HarnessError
from harness.models.loading.tokenizer import on_model
from harness.models.transformer import Transformer
from harness.reports.notebook.prompts import pairs_html, pairs_text
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import obtain_model
from harness.runs.plan import Cell, ModelSource, make_cell
from harness.runs.prompts.words import Outputs
from harness.runs.store.record import model_store
from harness.spec.build import build
from harness.spec.key import plain
from harness.spec.load import Library, Loaded
from harness.spec.types import HOW_LARGE, Evaluation, Method, Runtime, Task

Log = Callable[[str], None]

RESULTS = Path("results")
_UNNAMED = Method(name="api", title="Called from Python", kind="random")
"""A cell needs a method; its model and its pairs do not depend on it."""


@dataclass(frozen=True)
class OpenTask:
    """A task from its YAML file, and its data.

    `model` is the model it is run with, by name or path; None is the task's own.
    """

    loaded: Loaded[Task]
    library: Library
    model: str | None = None

    @property
    def name(self) -> str:
        """The task's name."""
        return self.loaded.spec.name

    @property
    def evaluation(self) -> Evaluation:
        """The choices that circuits are measured under."""
        return self.loaded.spec.evaluation

    @cached_property
    def data(self) -> TaskData:
        """Prompt pairs and training batches in disjoint splits."""
        source = _source(self, self.model)
        return open_data(on_model(self.loaded, source.spec, source.folder))

    def with_evaluation(self, **changes: Any) -> OpenTask:
        """The same task under other choices: `task.with_evaluation(ablation="mean")`.

        Raises `HarnessError` for choices that a task's file could not make.
        """
        without = HOW_LARGE if changes.keys() & set(HOW_LARGE) else ()
        source = changed(self.loaded.source, "task", "evaluation", changes, without)
        evaluation = build(Evaluation, source.data["evaluation"])
        spec = replace(self.loaded.spec, evaluation=evaluation)
        resolved = {**self.loaded.resolved, "evaluation": plain(evaluation)}
        loaded = replace(self.loaded, spec=spec, resolved=resolved, source=source)
        return replace(self, loaded=loaded)


@dataclass(frozen=True, repr=False)
class TaskPairs(PromptPairs):
    """Prompt pairs that know their task's tokens: a notebook shows them word by word.

    `numbers`: answers are numbers, which no token names.
    """

    outputs: Outputs
    numbers: bool

    def __repr__(self) -> str:
        return pairs_text(self, self.outputs, numbers=self.numbers)

    def _repr_html_(self) -> str:
        return pairs_html(self, self.outputs, numbers=self.numbers)


def load_task(
    name: str, *, model: str | None = None, include: Sequence[Path | str] = ()
) -> OpenTask:
    """A task by name or by the path of its YAML file; `include` are folders to look in first.

    `model`: the spec of the model it is run with, by name or path, if that is not its own; a task
    with `tokenizer: {kind: model}` has its vocabulary.

    Raises `harness.HarnessError` (`SpecError` with file, line and column) for a task that is not
    there or not valid.
    """
    library = Library([Path(folder) for folder in include])
    return OpenTask(library.task(name), library, model)


def load_model(
    task: OpenTask,
    model: str | None = None,
    *,
    results: Path | str = RESULTS,
    device: Literal["cpu", "cuda"] = "cpu",
    log: Log | None = None,
) -> Transformer:
    """The task's model, or another spec's by name or path; trained first where it has to be.

    Trained models are kept below `results`, where `harness run` finds them too. Frozen.
    """
    if model not in (None, task.model) and needs_model(task.loaded.spec.tokenizer):
        raise HarnessError(
            f"task {task.name!r} has the tokenizer of its model: name the model in load_task"
        )
    cell = cell_of(task, model, device=device)
    threads = torch.get_num_threads()
    use_runtime(cell.runtime)  # the threads are part of what a model is kept under
    try:
        return obtain_model(cell, task.data, model_store(Path(results)), log or silent)
    finally:
        torch.set_num_threads(threads)


def prompt_pairs(
    task: OpenTask,
    rows: Iterable[Mapping[str, Any]] | None = None,
    *,
    split: str = "test",
    n: int | None = None,
    seed: int = 0,
) -> TaskPairs:
    """Prompt pairs in the task's tokens: `n` of a split, or your own `rows`.

    A row has `clean` and `corrupted` (texts of as many tokens), `good` and `bad` (an answer, or
    a list of them), and `position` where not the last token is read. Raises
    `harness.HarnessError` that names each row that cannot be used, the first being row 0.
    """
    if rows is not None:
        rows = list(rows)
        if not rows:
            raise HarnessError("no rows: there is nothing to measure on")
        pairs = pairs_of_rows(rows, task.data)
    else:
        wanted = task.evaluation.test_pairs if n is None else n
        pairs = task.data.pairs(split, wanted, seed, at_most=n is None)
    spec = task.loaded.spec
    outputs = Outputs(task.data.tokenizer, spec.answers)
    return TaskPairs(**vars(pairs), outputs=outputs, numbers=numeric_answers(spec.data))


# ---------------------------------------------------------------- inside
def cell_of(task: OpenTask, model: str | None, *, device: Literal["cpu", "cuda"] = "cpu") -> Cell:
    """A cell of the task with its own model, or another spec's."""
    source = _source(task, model or task.model)
    return make_cell(task.loaded, source, _UNNAMED, "method", 0, Runtime(device=device))


def _source(task: OpenTask, model: str | None) -> ModelSource:
    """The model of a name or path, or the task's own."""
    if model is None:
        return ModelSource.of(task.loaded)
    return ModelSource.named(task.library.model(model), model)


def silent(_text: str) -> None:
    """Log nothing."""
