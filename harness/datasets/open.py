"""Opens the data of a task spec, and names the files it depends on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from harness.datasets.kinds import kind_of
from harness.datasets.locate import beside, locate
from harness.datasets.pairs import TaskData
from harness.datasets.tokenizers import needs_model, without_model
from harness.datasets.tokenizers.bos import tokenizer_files
from harness.datasets.tokenizers.model import TOKENIZER_FILE
from harness.errors import HarnessError
from harness.spec.types import Task

if TYPE_CHECKING:
    from harness.spec.load import Loaded


def open_data(loaded: Loaded[Task]) -> TaskData:
    """Return the task's data; paths in the spec are relative to `loaded.folder`.

    A task whose tokenizer is the model's has to be that of a model (`tokenizers.model`). Raises
    HarnessError with everything that is wrong (`check_task` also knows the lines).
    """
    task = loaded.spec
    kind = kind_of(task.data)
    return kind.open(*kind.arguments(task, loaded.folder))


def content_digests(loaded: Loaded[Task]) -> dict[str, str]:
    """Return the sha256 (hex) of every file the data refers to, by the path as written.

    The tokenizer of a model is called `tokenizer.json`, wherever the model lies. Raises
    HarnessError naming all files that cannot be read.
    """
    if needs_model(loaded.spec.tokenizer):
        raise HarnessError(without_model(loaded.spec.name))
    digests: dict[str, str] = {}
    missing: list[str] = []
    for path in referred_files(loaded.spec):
        try:
            digest = hashlib.sha256(_place(path, loaded).read_bytes()).hexdigest()
        except OSError as error:
            missing.append(f"{path}: {error.strerror or error}")
        else:
            digests[_shown(path, loaded.spec)] = digest
    if missing:
        raise HarnessError("files of the task cannot be read: " + "; ".join(missing))
    return digests


def task_files(loaded: Loaded[Task]) -> list[Path]:
    """Return all files that the data refer to, with what lies beside a tokenizer and is read.

    Their paths are those that the spec leads to, whether or not a file is there.
    """
    files: list[Path] = []
    for path in referred_files(loaded.spec):
        place = _place(path, loaded)
        files += tokenizer_files(place) if path == loaded.spec.tokenizer.path else [place]
    return files


def _place(path: str, loaded: Loaded[Task]) -> Path:
    """Where a file is: a tokenizer may be brought by the user, other files are beside the task."""
    brought = path == loaded.spec.tokenizer.path
    return locate(path, loaded.folder) if brought else beside(path, loaded.folder)


def _shown(path: str, task: Task) -> str:
    of_model = task.tokenizer.kind == "model" and path == task.tokenizer.path
    return TOKENIZER_FILE if of_model else path


def referred_files(task: Task) -> list[str]:
    """Return the paths, as written, of all files that a task's data is made from."""
    paths = [task.tokenizer.path] if task.tokenizer.path else []
    return list(dict.fromkeys([*paths, *kind_of(task.data).files(task.data)]))
