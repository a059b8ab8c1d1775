"""Writes the generated JSON Schemas: `python -m harness.cli.schemas`, or `make schemas`.

Not a verb of `harness`: only needed after a change of the spec classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import click

from harness.cli.say import say
from harness.datasets.generators.registry import generator, generator_names, plug_in
from harness.discovery.registry import built_in
from harness.spec.key import about_of
from harness.spec.schema.generate import schemas
from harness.spec.schema.text import as_text
from harness.spec.shipped import shipped_root


def generated() -> dict[str, str]:
    """The text of every generated schema, by the name of its file."""
    generators = {n: generator(n).params for n in generator_names() if plug_in(n) is None}
    methods = {kind: info.method for kind, info in built_in().items()}
    by_kind = schemas(_described(methods), _described(generators))
    return {f"{kind}.schema.json": as_text(schema) for kind, schema in by_kind.items()}


def _described(classes: Mapping[str, type | None]) -> dict[str, type]:
    """Classes with an `ABOUT`, whose fields are annotated like those of spec classes."""
    return {name: cls for name, cls in classes.items() if cls is not None and about_of(cls)}


@click.command("schemas")
@click.option("--check", is_flag=True, help="Write nothing; fail if a file is not up to date.")
def main(check: bool) -> None:
    """Regenerate the JSON Schemas in specs/ from the spec classes."""
    folder = shipped_root() / "specs"
    stale = [
        name
        for name, text in generated().items()
        if not (path := folder / name).is_file() or path.read_text(encoding="utf-8") != text
    ]
    if check and stale:
        raise click.ClickException(f"not up to date: {', '.join(stale)}; run `make schemas`")
    for name in stale:
        (folder / name).write_text(generated()[name], encoding="utf-8")
        say(f"wrote {folder / name}")


if __name__ == "__main__":
    main()
