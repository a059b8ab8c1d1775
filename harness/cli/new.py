"""`harness new`: start a task as a copy of a commented one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import options

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

    library = Library(include)
    path = Path("tasks") / f"{name}.yaml"
    _check_name(name, path, library)
    task = library.task(origin)
    _write_new(path, _renamed(task, name, path.parent))
    click.echo(path)
    _warn(path, include)
    click.echo(f"check it with: harness validate {path}; run it with: harness run {path}", err=True)


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
    """The text of the task with its name, and its way to the schema, replaced."""
    from harness.spec.shipped import shipped_root

    lines = task.source.text.splitlines(keepends=True)
    line, column = task.source.positions[("name",)]
    old = lines[line - 1]
    lines[line - 1] = old[: column - 1] + old[column - 1 :].replace(task.spec.name, name, 1)
    schema = shipped_root() / "specs" / "task.schema.json"
    way = Path(os.path.relpath(schema, folder.absolute())).as_posix()
    return re.sub(r"\$schema=\S+", lambda _: f"$schema={way}", "".join(lines), count=1)


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
        click.echo(f"warning, to be mended in the copy: {issue}", err=True)
