"""`harness frontier`: how small the circuits of models are that reach a loss."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from harness.cli import options
from harness.cli.say import say


@click.command("frontier")
@click.argument("run")
@options.results("-o")
@click.option(
    "--loss",
    type=click.FloatRange(min=0, min_open=True),
    default=0.15,
    show_default=True,
    help="Most nats of task loss that a circuit may have on the test pairs.",
)
@click.option("--to", help="Compare arms with this one; by default that of the smallest circuits.")
@click.option(
    "--join",
    help="Take these methods, as a,b, for one search: of each task and model their smallest "
    "circuit counts.",
)
@options.as_json
def command(
    run: str, results: Path, loss: float, to: str | None, join: str | None, as_json: bool
) -> int:
    """Compare the smallest circuits of RUN that reach a loss, between models and methods.

    Models that differ in the seed of their training alone, and in its target, are one arm, called
    by what their names begin with. For each arm: excess over the entropy of its data, and loss of
    the whole model on every task; for each method the sizes by task, and how many times larger
    those of other arms are, with intervals. Circuits whose search missed their own target do not
    count; where only two of three cells have one that does, the table says (2/3). Smoke cells are
    left out; exit 3 if there are damaged ones.
    """
    from harness.cli.choose import listed, note_faults, read_runs
    from harness.reports.frontier.smallest import frontier
    from harness.reports.frontier.tables import text_of
    from harness.runs.store.record import find_run, model_store

    folder = find_run(results, run)
    cells, faults = read_runs([folder])
    joined = () if join is None else listed("--join", join)
    reached = frontier(cells, model_store(folder.parent), loss, joined)
    if as_json:
        say(json.dumps(asdict(reached), indent=1))
    else:
        say(text_of(reached, to))
    return note_faults(faults)
