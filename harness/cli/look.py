"""`harness look`: what a task asks, token by token, and what its model answers."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli import options
from harness.cli.say import say


@click.command("look")
@click.argument("task")
@click.option("--model", help="With this model in place of the task's own.")
@click.option("--split", default="test", show_default=True, help="Prompt pairs to look at.")
@click.option(
    "--pairs", type=click.IntRange(min=1), default=3, show_default=True, help="How many of them."
)
@click.option(
    "--sequences",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Also measure the model on N whole held-out sequences, such as games, move by move.",
)
@click.option("--train", is_flag=True, help="Train a model that is not there yet.")
@options.results("-o")
@options.include
@options.as_json
def command(
    task: str,
    model: str | None,
    split: str,
    pairs: int,
    sequences: int,
    train: bool,
    results: Path,
    include: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Show prompt pairs of TASK as tokens: where twins differ, where answers are read, which.

    With a model that is there (trained, loaded or compiled), also the five tokens that it expects
    most, after the clean prompt and after its corrupted twin.

    Where a task knows every right next token of a sequence (the legal moves of a game),
    --sequences says how often the model's first choice is one, how much probability they have, and
    how far the model is from the best there can be.
    """
    from harness.cli.choose import checked_task, default_runtime, log, model_source
    from harness.reports.screens.prompts import prompts_text
    from harness.runs.services.look import View, look
    from harness.runs.store.record import model_store
    from harness.spec.load import Library

    library = Library(include)
    loaded = checked_task(library, task)
    runtime = default_runtime(library)
    source = model_source(library, loaded, model)
    view = View(loaded, source, runtime, split, pairs, train, sequences)
    report = look(view, model_store(results), log)
    text = json.dumps(report, indent=1, allow_nan=False)
    say(text if as_json else prompts_text(report, options.window()))
