"""`harness dictionary`: train or load the dictionaries of specs, and say how good they are."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli import options
from harness.cli.say import say


@click.command("dictionary")
@click.argument("names", nargs=-1, required=True)
@options.train_dictionaries
@click.option(
    "--pairs",
    type=click.IntRange(min=2),
    default=512,
    show_default=True,
    help="Held-out prompts to measure on.",
)
@click.option(
    "--sequences",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Also measure all sites at once on N whole held-out sequences, such as games.",
)
@click.option(
    "--export",
    type=click.Path(path_type=Path),
    help="Write them into this new folder, each in SAELens' form.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write weights, log and a card into this new folder, for `weights` in the spec.",
)
@options.results("-o")
@options.include
@options.as_json
def command(
    names: tuple[str, ...],
    train: bool,
    pairs: int,
    sequences: int,
    export: Path | None,
    output: Path | None,
    results: Path,
    include: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Show how sparse and how good dictionaries are: what they code, what a splice costs.

    A splice runs the model with sites replaced by what their dictionaries decode. Several NAMES
    are compared in one table (--json: a list). Trained dictionaries are kept in the results folder
    beside models; an interrupted training resumes. With --output, weights that the spec names are
    left alone.
    """
    from harness.cli.choose import log, planned_dictionaries
    from harness.errors import HarnessError
    from harness.reports.screens.dictionaries import comparison_text, dictionaries_text
    from harness.runs.services.dictionary import export_saelens, measured_dictionaries
    from harness.runs.services.shipping.dictionaries import ship_dictionaries
    from harness.runs.store.record import model_store
    from harness.spec.load import Library

    library, models = Library(include), model_store(results)
    for option, folder in (("--export", export), ("--output", output)):
        if folder is not None and len(names) > 1:
            raise HarnessError(f"{option} writes the dictionaries of one spec; name one")
        if folder is not None and folder.exists():
            raise HarnessError(f"{folder} is there already; remove it, or give another {option}")
    every = [planned_dictionaries(library, name, afresh=output is not None) for name in names]
    reports = [
        measured_dictionaries(one, pairs, models, log, train=train, sequences=sequences)
        for one in every
    ]
    if export is not None:
        for folder in export_saelens(every[0], models, log, export):
            log(f"wrote {folder}")
    if output is not None:
        ship_dictionaries(every[0], reports[0], models, output)
        log(f"wrote {output}; name it as `weights` in the spec to use it without training")
    if as_json:
        report = reports[0] if len(reports) == 1 else reports
        say(json.dumps(report, indent=1, allow_nan=False))
    else:
        say(dictionaries_text(*reports) if len(reports) == 1 else comparison_text(reports))
