"""`harness show`: one task, model, dictionary, method, suite or metric."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options
from harness.cli.say import say

if TYPE_CHECKING:
    from harness.metrics import Measure


@click.command("show")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["task", "model", "dictionary", "method", "suite"]),
    help="Needed only where one name means several specs.",
)
@click.option("--resolved", is_flag=True, help="With all defaults, and a task's model inlined.")
@options.include
@options.as_json
def command(
    name: str, kind: str | None, resolved: bool, include: tuple[Path, ...], as_json: bool
) -> None:
    """Show the spec called NAME (or the file NAME) as written; --json gives it resolved."""
    from harness.cli.lookup import find_spec
    from harness.errors import NotFound
    from harness.spec.load import Library

    library = Library(include)
    try:
        spec_kind, path = find_spec(library, name, kind)
    except NotFound:
        from harness.metrics import MEASURES

        if kind is not None or name not in MEASURES:
            raise
        say(_measure(MEASURES[name], as_json))
        return
    if not (resolved or as_json):
        from harness.spec.printable import printable
        from harness.spec.yaml.source import read_text

        say("\n".join(printable(line) for line in read_text(path).splitlines()))
        return
    data: dict[str, Any] = getattr(library, spec_kind)(str(path)).resolved
    if as_json:
        say(json.dumps(data, indent=1))
    else:
        import yaml

        say(yaml.safe_dump(data, sort_keys=False, allow_unicode=False), nl=False)


def _measure(measure: Measure, as_json: bool) -> str:
    if as_json:
        return json.dumps(measure.record(), indent=1)
    unit = f", in {measure.unit}" if measure.unit else ""
    return f"{measure.heading()}{unit}\n{measure.formula}\nsource: {measure.source}"
