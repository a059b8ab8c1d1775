"""What is done with each kind of data that a task can have.

The package of a kind (`harness.spec.data_kinds` has them) holds a `DataKind` as `KIND`; it is
imported when a task of its kind is opened or checked. None of them needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.datasets.classes import Classes
from harness.datasets.pairs import TaskData
from harness.datasets.problems import Problem
from harness.errors import HarnessError
from harness.spec.data_kinds import PACKAGES
from harness.spec.types import Data, Task

if TYPE_CHECKING:
    from harness.datasets.program.program import Program


def _no_files(data: Any) -> Sequence[str]:
    return ()


def _own_code(data: Any) -> str | None:
    return None


@dataclass(frozen=True)
class DataKind:
    """What a kind of data does with the `data` of a task, whose file lies in a folder.

    `open(data, tokenizer, folder)`: the task's data; `HarnessError` with all that is wrong.
    `problems(data, tokenizer, folder)`: all that is wrong, by place in the task's file.
    `problems_without_tokens`: those of them that can be told where the tokenizer's file is absent.
    `notes(opened)`: what is no mistake of opened data but should be said, such as rows not used.
    `files(data)`: paths beside the task that its data are made from; a cell's id has their digests.
    `plug_in(data)`: package and version of code of others that makes the data, None for ours.
    `program(data)`: the program behind the answers, where models can be compiled from the data.
    `in_classes`: tasks of this kind may answer in classes: the first three then take them as a
    fourth argument.
    """

    open: Callable[..., TaskData]
    problems: Callable[..., list[Problem]]
    problems_without_tokens: Callable[..., list[Problem]]
    notes: Callable[[Any], Sequence[str]] | None = None
    files: Callable[[Any], Sequence[str]] = _no_files
    plug_in: Callable[[Any], str | None] = _own_code
    program: Callable[[Any], Program] | None = None
    in_classes: bool = False

    def arguments(self, task: Task, folder: Path) -> tuple[Any, ...]:
        """What these functions are called with. Raises `HarnessError`, see `unfit_answers`."""
        if task.answers is None:
            return task.data, task.tokenizer, folder
        if text := self.unfit_answers(task):
            raise HarnessError(f"answers: {text}")
        return task.data, task.tokenizer, folder, Classes(task.answers)

    def unfit_answers(self, task: Task) -> str | None:
        """Why a task of this kind cannot have its `answers`; None if it can, or has none."""
        if task.answers is None or self.in_classes:
            return None
        able = " and ".join(repr(name) for name in PACKAGES if data_kind(name).in_classes)
        return f"data of kind {task.data.kind!r} answer in tokens; kinds {able} can name classes"


def data_kind(name: str) -> DataKind:
    """Return the kind of this name; imports its package."""
    kind: DataKind = import_module(PACKAGES[name]).KIND
    return kind


def kind_of(data: Data) -> DataKind:
    """Return the kind of a task's data."""
    return data_kind(data.kind)


def numeric_answers(data: Data) -> bool:
    """Whether a task's answers are numbers that one logit carries, not tokens.

    Which logit is largest then says nothing, so the task has no accuracy.
    """
    program = kind_of(data).program
    return program is not None and program(data).numerical
