"""Opens the data of a task spec, and names the files it depends on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from harness.datasets.files.task import open_file
from harness.datasets.generators import generator
from harness.datasets.locate import locate
from harness.datasets.pairs import TaskData
from harness.datasets.program.task import open_program
from harness.datasets.template.task import open_template
from harness.errors import HarnessError
from harness.spec.types import FileData, GeneratorData, ProgramData, Task, TemplateData

if TYPE_CHECKING:
    from harness.spec.load import Loaded


def open_data(loaded: Loaded[Task]) -> TaskData:
    """Return the task's data; paths in the spec are relative to `loaded.folder`.

    Raises HarnessError with everything that is wrong (`check_task` also knows the lines).
    """
    task = loaded.spec
    if isinstance(task.data, GeneratorData):
        return generator(task.data.generator).open_data(task.data, task.tokenizer, loaded.folder)
    if isinstance(task.data, TemplateData):
        return open_template(task.data, task.tokenizer, loaded.folder)
    if isinstance(task.data, ProgramData):
        return open_program(task.data, task.tokenizer)
    return open_file(task.data, task.tokenizer, loaded.folder)


def content_digests(loaded: Loaded[Task]) -> dict[str, str]:
    """Return the sha256 (hex) of every file the data refers to, by the path as written.

    Raises HarnessError naming all files that cannot be read.
    """
    digests: dict[str, str] = {}
    missing: list[str] = []
    for path in referred_files(loaded.spec):
        try:
            digests[path] = hashlib.sha256(_place(path, loaded).read_bytes()).hexdigest()
        except OSError as error:
            missing.append(f"{path}: {error.strerror or error}")
    if missing:
        raise HarnessError("files of the task cannot be read: " + "; ".join(missing))
    return digests


def _place(path: str, loaded: Loaded[Task]) -> Path:
    """Where a file is: a tokenizer may be brought by the user, other files are beside the task."""
    brought = path == loaded.spec.tokenizer.path
    return locate(path, loaded.folder) if brought else loaded.folder / path


def referred_files(task: Task) -> list[str]:
    """Return the paths, as written, of all files that a task's data is made from."""
    paths = [task.tokenizer.path] if task.tokenizer.path else []
    if isinstance(task.data, FileData):
        paths.append(task.data.path)
    if isinstance(task.data, TemplateData):
        paths += [words.file for words in task.data.lists.values() if words.file]
    return list(dict.fromkeys(paths))
