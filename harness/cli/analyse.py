"""`harness analyse`: what a dictionary's features and circuits say together."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.analyses.registry import ANALYSES
from harness.cli import options
from harness.cli.say import say

_LIST = "\n".join(f"  {name:<14} {info.title}" for name, info in ANALYSES.items())


@click.command("analyse", epilog=f"\b\nAnalyses:\n{_LIST}")
@click.argument("what", metavar="ANALYSIS", type=click.Choice(list(ANALYSES)))
@click.argument("dictionary", nargs=-1, required=True)
@click.option("--prompt", type=click.IntRange(min=0), help="Which prompt of the split test.")
@click.option("--target", help="As for `harness trace`; default: what the analysis is about.")
@click.option("--token", type=click.IntRange(min=0), help="At this token.")
@click.option("--family", help="Of features: only those named after concepts of this family.")
@click.option(
    "--sequences",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Held-out games to go through.",
)
@click.option(
    "--rows", type=click.IntRange(min=1), default=12, show_default=True, help="Of tables."
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Names of features from this output of `harness features` (for each dictionary one).",
)
@click.option(
    "--label-tokens",
    type=options.COUNTED,
    default=100_000,
    show_default=True,
    help="Without --labels: tokens that names are chosen on. Probes are fitted on as many.",
)
@click.option(
    "--held-out",
    type=click.IntRange(min=1),
    default=400,
    show_default=True,
    help="Without --labels: held-out games that names are confirmed on.",
)
@options.loose
@click.option("--output", type=options.FOLDER, help="Write JSON and pictures (SVG) there.")
@options.train_dictionaries
@options.results("-o")
@options.include
@options.as_json
def command(
    what: str,
    dictionary: tuple[str, ...],
    prompt: int | None,
    target: str | None,
    token: int | None,
    family: str | None,
    sequences: int,
    rows: int,
    labels: tuple[Path, ...],
    label_tokens: int,
    held_out: int,
    loose: float,
    output: Path | None,
    train: bool,
    results: Path,
    include: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Analyse what the features of DICTIONARY compute, on a prompt or over held-out games.

    Features are named after the task's concepts, as `harness features` labels them; ~ marks a
    name that is no confirmed label, with its F1.
    """
    from harness.analyses.studied import AnalysisChoices
    from harness.cli.choose import log, planned_dictionaries
    from harness.interpretation.study import StudyBudget
    from harness.reports.screens.analyses import analysis_text, write_analysis
    from harness.runs.services.analyses.analyse import AnalysisRequest, analysed
    from harness.runs.store.record import model_store
    from harness.spec.load import Library

    library = Library(include)
    choices = AnalysisChoices(prompt, target, token, family, sequences, rows, label_tokens)
    budget = StudyBudget(label_tokens, label_tokens, held_out)
    planned = [planned_dictionaries(library, name) for name in dictionary]
    asked = AnalysisRequest(what, choices, budget, labels, loose, train)
    report = analysed(planned, asked, model_store(results), log)
    if output is not None:
        for path in write_analysis(report, output):
            log(f"wrote {path}")
    text = json.dumps(report, indent=1, allow_nan=False)
    say(text if as_json else analysis_text(report))
