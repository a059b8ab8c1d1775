"""The kinds of data that a task can have: one line for each, and a package that does the work.

A package holds a `DataKind` as `KIND`; it is imported when a task of its kind is opened or checked.
None of them needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.datasets.pairs import TaskData
from harness.datasets.problems import Problem
from harness.spec.types import Data, TokenizerSpec

if TYPE_CHECKING:
    from harness.datasets.program.program import Program

KINDS: Mapping[str, str] = {
    "template": "harness.datasets.template",
    "program": "harness.datasets.program",
    "file": "harness.datasets.files",
    "generator": "harness.datasets.generators",
}


def _no_files(data: Any) -> Sequence[str]:
    return ()


def _no_notes(data: Any, tokenizer: TokenizerSpec, folder: Path) -> Sequence[str]:
    return ()


def _own_code(data: Any) -> str | None:
    return None


@dataclass(frozen=True)
class DataKind:
    """What a kind of data does with the `data` of a task, whose file lies in a folder.

    `open(data, tokenizer, folder)`: the task's data; `HarnessError` with all that is wrong.
    `problems(data, tokenizer, folder)`: all that is wrong, by place in the task's file.
    `problems_without_tokens`: those of them that can be told where the tokenizer's file is absent.
    `notes(data, tokenizer, folder)`: what is no mistake but should be said, such as rows not used.
    `files(data)`: paths beside the task that its data are made from; a cell's id has their digests.
    `plug_in(data)`: package and version of code of others that makes the data, None for ours.
    `program(data)`: the program behind the answers, where models can be compiled from the data.
    """

    open: Callable[[Any, TokenizerSpec, Path], TaskData]
    problems: Callable[[Any, TokenizerSpec, Path], list[Problem]]
    problems_without_tokens: Callable[[Any, TokenizerSpec, Path], list[Problem]]
    notes: Callable[[Any, TokenizerSpec, Path], Sequence[str]] = _no_notes
    files: Callable[[Any], Sequence[str]] = _no_files
    plug_in: Callable[[Any], str | None] = _own_code
    program: Callable[[Any], Program] | None = None


def data_kind(name: str) -> DataKind:
    """Return the kind of this name; imports its package."""
    kind: DataKind = import_module(KINDS[name]).KIND
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
