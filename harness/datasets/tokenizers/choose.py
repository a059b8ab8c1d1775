"""The tokenizer that a task's spec asks for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.datasets.tokenizers.file import FileTokenizer, open_tokenizer
from harness.datasets.tokenizers.vocabulary import Vocabulary
from harness.errors import HarnessError
from harness.spec.types import TokenizerSpec

FILE_KINDS = ("file", "model")
"""Kinds whose vocabulary is a `tokenizer.json`, not the task's own words."""


def is_file(spec: TokenizerSpec) -> bool:
    """Whether the vocabulary is a `tokenizer.json`."""
    return spec.kind in FILE_KINDS


def needs_model(spec: TokenizerSpec) -> bool:
    """Whether the vocabulary is that of a model that has not been chosen yet."""
    return spec.kind == "model" and spec.path is None


def without_model(task: str) -> str:
    """Return the message for a task that is opened before a model is chosen."""
    return f"task {task!r} has the tokenizer of its model (kind 'model'), and no model is chosen"


def spec_problems(spec: TokenizerSpec) -> list[tuple[str, str]]:
    """Return what is wrong with a task's `tokenizer`, each with the key it belongs to."""
    problems = []
    if spec.kind == "file" and not spec.path:
        problems.append(("path", "a tokenizer of kind 'file' needs `path`, a tokenizer.json"))
    if not is_file(spec) and spec.path:
        problems.append(("path", f"`path` is only for kind 'file', not {spec.kind!r}"))
    if not is_file(spec) and spec.bos == "auto":
        text = f"'auto' is what a tokenizer.json does; for kind {spec.kind!r} say true or false"
        problems.append(("bos", text))
    elif not is_file(spec) and isinstance(spec.bos, str):
        text = f"{spec.bos!r}: for kind {spec.kind!r} BOS is no token of a file; say true or false"
        problems.append(("bos", text))
    return problems


def file_problems(spec: TokenizerSpec, folder: Path) -> list[tuple[str, str]]:
    """Return why the tokenizer of a file that exists cannot be opened, with the key at fault."""
    for key, bos in (("path" if spec.kind == "file" else "kind", False), ("bos", spec.bos)):
        try:
            open_tokenizer(spec.path or "", bos, folder)
        except HarnessError as error:
            return [(key, str(error))]
    return []


def file_tokenizer(spec: TokenizerSpec, folder: Path, continues: bool = True) -> FileTokenizer:
    """Return the tokenizer of a file; HarnessError if it cannot be read or none is chosen yet.

    `continues`: answers have to be how prompts go on.
    """
    if not spec.path:
        raise HarnessError(
            "a tokenizer of kind 'file' needs `path`, a tokenizer.json"
            if spec.kind == "file"
            else "the tokenizer is that of the model, and no model is chosen"
        )
    return open_tokenizer(spec.path, spec.bos, folder, continues)


def tokenizer_for(
    spec: TokenizerSpec, folder: Path, texts: Iterable[str], continues: bool = True
) -> Vocabulary | FileTokenizer:
    """Return the tokenizer of a task in `folder`; one that is built knows all of `texts`."""
    if is_file(spec):
        return file_tokenizer(spec, folder, continues)
    if spec.kind == "characters":
        return Vocabulary.of_characters(texts, spec.bos is True)
    if spec.kind == "words":
        return Vocabulary.of_words(texts, spec.bos is True)
    raise HarnessError(f"tokenizer: kind {spec.kind!r} is only for the othello generator")
