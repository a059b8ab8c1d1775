"""`harness features`: what the features of dictionaries stand for."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli import options
from harness.cli.say import say


@click.command("features")
@click.argument("dictionary")
@click.option("--sites", default="", help="Only these sites, as a0,m1.")
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    default=1_200_000,
    show_default=True,
    help="Tokens among which each feature's strongest are found.",
)
@click.option(
    "--label-tokens",
    type=options.COUNTED,
    default=300_000,
    show_default=True,
    help="Of these, tokens that labels are chosen on.",
)
@click.option(
    "--held-out",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Held-out sequences that labels are confirmed on.",
)
@click.option(
    "--baselines/--no-baselines",
    default=True,
    show_default=True,
    help="Also MLP neurons, random directions and linear probes.",
)
@click.option(
    "--panels",
    type=click.IntRange(min=0),
    default=4,
    show_default=True,
    help="Features of each site whose panels are drawn into --output.",
)
@click.option(
    "--feature",
    "features",
    multiple=True,
    metavar="NAME",
    help="Also the panel of this feature, as m1.357, labelled or not (several times).",
)
@click.option(
    "--output",
    type=options.FOLDER,
    help="Write the report and the panels (SVG) into this folder.",
)
@options.train_dictionaries
@options.results("-o")
@options.include
@options.as_json
def command(
    dictionary: str,
    sites: str,
    tokens: int,
    label_tokens: int,
    held_out: int,
    baselines: bool,
    panels: int,
    features: tuple[str, ...],
    output: Path | None,
    train: bool,
    results: Path,
    include: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Label the features of DICTIONARY by the concepts of its task, and say what they cover.

    A label has to be precise, and to remove half of the doubt that knowing the position leaves; it
    is chosen on training games and confirmed on held-out ones. Beside the features: the model's
    neurons, random directions that are as sparse, and linear probes of the stream.
    """
    from harness.cli.choose import log, planned_dictionaries
    from harness.interpretation.study import StudyBudget
    from harness.reports.screens.features import features_text, write_report
    from harness.runs.services.features import FeatureRequest, described_features
    from harness.runs.store.record import model_store
    from harness.spec.load import Library

    library = Library(include)
    planned = planned_dictionaries(library, dictionary)
    named = tuple(one.strip() for one in sites.split(",") if one.strip())
    budget = StudyBudget(tokens, label_tokens, held_out)
    drawn = panels if output is not None else 0
    asked = FeatureRequest(budget, baselines, drawn, named, train, features)
    report = described_features(planned, asked, model_store(results), log)
    if output is not None:
        for path in write_report(report, output):
            log(f"wrote {path}")
    text = json.dumps(report, indent=1, allow_nan=False)
    say(text if as_json else features_text(report))
