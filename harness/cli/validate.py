"""`harness validate`: report all mistakes in specs that can be detected without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from harness.cli import options
from harness.cli.say import say

_SHOWN = 3
"""Names of files in one line."""

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.spec.load import Library
    from harness.spec.schema import SpecKind


@click.command("validate")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="github prints annotations for a workflow.",
)
@options.include
def command(
    paths: tuple[str, ...], form: Literal["text", "json", "github"], include: tuple[Path, ...]
) -> int:
    """Check the specs at PATH (files, folders or names); without PATH, all that can be named.

    Checks the schema, references between specs, and the data of tasks: parameters, slots,
    answers of one token, pairs of equal length. Exit 2 if anything is wrong. Warns of corruptions
    that change no answer, as far as the task's own prompts can tell.
    """
    from harness.cli.check import issues_of, needs_of, warnings_of
    from harness.errors import SpecError
    from harness.spec.issues import in_order, render
    from harness.spec.load import Library
    from harness.spec.printable import shown_path

    library = Library(include)
    files = list(dict.fromkeys(_named(library, paths) if paths else _all(library)))
    issues = in_order(issue for path, kind in files for issue in issues_of(library, path, kind))
    broken = {issue.file for issue in issues}
    warnings = in_order(
        warning
        for path, kind in files
        if shown_path(path) not in broken
        for warning in warnings_of(library, path, kind)
    )
    text = render(issues, form) if form == "text" else render([*issues, *warnings], form)
    if text:
        say(text)
    if form == "text" and warnings:
        say(render(warnings, form), err=True)
    if form == "text":
        wrong = len({issue.file for issue in issues})
        needs = [(path, text) for path, kind in files for text in needs_of(library, path, kind)]
        lines = [f"{shown_path(path)}: {text}" for path, text in needs]
        for line in lines if paths else _grouped(needs):
            say(line, err=True)
        lacking = len({path for path, _ in needs})
        more = f", {lacking} need files that are not there" if lacking else ""
        say(f"{len(files)} files checked, {wrong} with mistakes{more}", err=True)
    return SpecError.exit_code if issues else 0


def _grouped(needs: list[tuple[Path, str]]) -> list[str]:
    """One line for each folder that files need, however many need it."""
    from harness.datasets.locate import VARIABLE
    from harness.spec.printable import printable

    users: dict[str, list[str]] = {}
    for path, text in needs:
        needed = Path(text.removeprefix("needs ").partition(", ")[0])
        folder = needed.parent if needed.suffix else needed
        users.setdefault(folder.as_posix(), []).append(path.stem)
    lines = []
    for place, names in sorted(users.items()):
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        lines.append(printable(f"{place} is needed by {', '.join(names[:_SHOWN])}{more}"))
    if lines:
        lines.append(f"put them here, or set {VARIABLE} to the folder that holds them")
    return lines


def _all(library: Library) -> Iterator[tuple[Path, SpecKind | None]]:
    from harness.cli.lookup import KINDS

    for kind in KINDS:
        for entry in library.entries(kind):
            yield entry.path, kind


def _named(library: Library, paths: tuple[str, ...]) -> Iterator[tuple[Path, SpecKind | None]]:
    from harness.cli.lookup import find_spec
    from harness.errors import NotFound
    from harness.spec.search import ENDINGS, is_path

    for ref in paths:
        path = Path(ref)
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix in ENDINGS and p.is_file())
            if not files:
                raise NotFound(f"no .yaml file below {ref}")
            yield from ((file, None) for file in files)
        elif is_path(ref) and path.is_file():
            yield path, None
        else:
            kind, file = find_spec(library, ref)
            yield file, kind
