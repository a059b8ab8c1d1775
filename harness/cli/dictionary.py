"""`harness dictionary`: train or load the dictionaries of a spec, and say how good they are."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli import options


@click.command("dictionary")
@click.argument("name")
@click.option("--train", is_flag=True, help="Train dictionaries (and a model) not there yet.")
@click.option(
    "--pairs",
    type=click.IntRange(min=2),
    default=512,
    show_default=True,
    help="Held-out prompts to measure on.",
)
@click.option(
    "--export",
    type=click.Path(path_type=Path),
    help="Write them into this new folder, each in SAELens' form.",
)
@options.results("-o")
@options.include
@options.as_json
def command(
    name: str,
    train: bool,
    pairs: int,
    export: Path | None,
    results: Path,
    include: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Show how sparse and how good the dictionaries NAME are: what they code, what a splice costs.

    A splice runs the model with sites replaced by what their dictionaries decode. Trained
    dictionaries are kept in the results folder beside models; an interrupted training resumes.
    """
    from harness.cli.choose import log, planned_dictionaries
    from harness.errors import HarnessError
    from harness.reports.screens.dictionaries import dictionaries_text
    from harness.runs.services.dictionary import export_saelens, measured_dictionaries
    from harness.runs.store.record import model_store
    from harness.spec.load import Library

    library = Library(include)
    if export is not None and export.exists():
        raise HarnessError(f"{export} is there already; remove it, or give another --export")
    planned = planned_dictionaries(library, name)
    models = model_store(results)
    report = measured_dictionaries(planned, pairs, models, log, train=train)
    if export is not None:
        for folder in export_saelens(planned, models, log, export):
            log(f"wrote {folder}")
    text = json.dumps(report, indent=1, allow_nan=False)
    click.echo(text if as_json else dictionaries_text(report))
