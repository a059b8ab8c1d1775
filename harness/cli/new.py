"""`harness new`: start a task as a copy of a commented one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import options
from harness.cli.say import say

if TYPE_CHECKING:
    from harness.spec.load import Loaded
    from harness.spec.types import Task

TUTORIAL = "greater_than"


@click.command("new")
@click.argument("name")
@click.option(
    "--from", "origin", default=TUTORIAL, show_default=True, help="Task to copy, by name or path."
)
@options.include
def command(name: str, origin: str, include: tuple[Path, ...]) -> None:
    """Copy a commented task to ./tasks/NAME.yaml, under its new name. Never overwrites a file."""
    from harness.spec.load import Library
    from harness.spec.printable import printable

    library = Library(include)
    path = Path("tasks") / f"{name}.yaml"
    _check_name(name, path, library)
    task = library.task(origin)
    _write_new(path, _renamed(task, name, path.parent))
    say(printable(str(path)))
    _warn(path, include)
    say(f"check it with: harness validate {path}; run it with: harness run {path}", err=True)


def _check_name(name: str, path: Path, library: object) -> None:
    from harness.errors import HarnessError
    from harness.spec.load import Library
    from harness.spec.schema import load_schema

    assert isinstance(library, Library)
    rule = load_schema("task")["properties"]["name"]
    if not re.search(rule.get("pattern", ""), name):
        raise HarnessError(f"{name!r} cannot name a task: {rule.get('x-message', rule['pattern'])}")
    if path.exists() or path.is_symlink():
        raise HarnessError(f"{path} is there already; choose another name or remove it")
    if library.has("task", name):
        raise HarnessError(f"there is a task {name!r} already; choose another name")


def _renamed(task: Loaded[Task], name: str, folder: Path) -> str:
    """The text of the task under its new name, with a header and a model name of its own."""
    from harness.spec.shipped import shipped_root

    lines = task.source.text.splitlines(keepends=True)
    names: dict[tuple[str, ...], tuple[str, str]] = {("name",): (task.spec.name, name)}
    model = task.spec.model
    # A loaded model stays the one that it is.
    if model.name is not None and model.kind != "load":
        names["model", "name"] = model.name, _model_name(model.name, task.spec.name, name)
    for place, (old, new) in names.items():
        if place in task.source.positions:  # not where a model's file is named
            line, column = task.source.positions[place]
            text = lines[line - 1]
            lines[line - 1] = text[: column - 1] + text[column - 1 :].replace(old, new, 1)
    schema = shipped_root() / "specs" / "task.schema.json"
    way = Path(os.path.relpath(schema, folder.absolute())).as_posix()
    return "".join([*_header(task.spec.name, name, way), *_without_header(lines)])


def _model_name(old: str, task: str, name: str) -> str:
    """`greater-than-2l-64` of the task `greater_than` becomes `my-task-2l-64` of `my_task`."""
    beginning = task.replace("_", "-")
    own = name.replace("_", "-")
    return f"{own}{old.removeprefix(beginning)}" if old.startswith(beginning) else f"{own}-model"


def _header(origin: str, name: str, schema: str) -> list[str]:
    return [
        f"# yaml-language-server: $schema={schema}\n",
        "#\n",
        f"# {name}: a copy of the task {origin}, to be changed from its title to its model.\n",
        f"# Check it with `harness validate {name}`, then run it with `harness run {name}`.\n",
    ]


def _without_header(lines: list[str]) -> list[str]:
    """The lines behind the comment that a file begins with: it is about the original."""
    start = next((at for at, line in enumerate(lines) if not line.startswith("#")), 0)
    return lines[start:]


def _write_new(path: Path, text: str) -> None:
    """Write the file atomically, and only if it does not exist yet."""
    from harness.errors import HarnessError
    from harness.runs.store.atomic import write_synced

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_synced(draft, text.encode())
        os.link(draft, path)  # unlike a rename, fails if the place is taken
    except FileExistsError as error:
        raise HarnessError(f"{path} is there already; choose another name") from error
    finally:
        draft.unlink(missing_ok=True)


def _warn(path: Path, include: tuple[Path, ...]) -> None:
    """Warn about files that the original refers to and that are not found from the copy."""
    from harness.cli.check import issues_of
    from harness.spec.load import Library

    for issue in issues_of(Library(include), path, "task"):
        say(f"warning, to be mended in the copy: {issue}", err=True)
