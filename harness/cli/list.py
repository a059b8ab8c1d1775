"""`harness list`: list tasks, models, dictionaries, methods, metrics or suites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options
from harness.cli.say import say

if TYPE_CHECKING:
    from harness.spec.load import Entry
    from harness.spec.schema import SpecKind

KINDS: dict[str, SpecKind | None] = {
    "tasks": "task",
    "models": "model",
    "dictionaries": "dictionary",
    "methods": "method",
    "metrics": None,
    "suites": "suite",
}
"""What can be listed; metrics are no specs."""


@click.command("list")
@click.argument("what", type=click.Choice(list(KINDS)), default="tasks")
@click.option("--tag", help="Only specs with this tag.")
@options.include
@options.as_json
def command(what: str, tag: str | None, include: tuple[Path, ...], as_json: bool) -> None:
    """List specs of a kind, or metrics. A file with mistakes is listed as broken."""
    kind = KINDS[what]
    if kind is None:
        _metrics(as_json)
        return
    from harness.spec.load import Library

    entries = [e for e in Library(include).entries(kind) if tag is None or tag in e.tags]
    if as_json:
        say(json.dumps([_data(entry) for entry in entries], indent=1))
        return
    _columns([(entry.ref, _about(entry)) for entry in entries])
    if not entries:
        say(f"no {what} found", err=True)


def _data(entry: Entry) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "name": entry.ref,
        "title": entry.title,
        "path": str(entry.path),
        "tags": list(entry.tags),
        "issues": [asdict(issue) for issue in entry.issues],
    }


def _about(entry: Entry) -> str:
    if entry.issues:
        first = entry.issues[0]
        more = f" (and {len(entry.issues) - 1} more)" if len(entry.issues) > 1 else ""
        place = f"{first.file}:{first.line}:{first.column}"
        return f"BROKEN {place}: {first.message}{more}"
    tags = f"  [{', '.join(entry.tags)}]" if entry.tags else ""
    return f"{entry.title}{tags}"


def _metrics(as_json: bool) -> None:
    from harness.metrics import MEASURES

    measures = MEASURES.values()
    if as_json:
        say(json.dumps([measure.record() for measure in measures], indent=1))
        return
    lines = [(f"{m.name} {m.arrow}".strip(), f"{m.formula} ({m.source})") for m in measures]
    _columns(lines)


def _columns(lines: list[tuple[str, str]]) -> None:
    from harness.spec.printable import printable

    safe = [(printable(name), printable(text)) for name, text in lines]
    width = max((len(name) for name, _ in safe), default=0)
    for name, text in safe:
        say(f"{name:<{width}}  {text}".rstrip())
