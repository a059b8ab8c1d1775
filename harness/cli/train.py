"""`harness train`: train a model spec, and write weights that can be shipped beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options
from harness.cli.say import say

if TYPE_CHECKING:
    from harness.runs.services.shipping.models import TrainedModel


@click.command("train")
@click.argument("model")
@click.option("--task", help="Task to train on, where the model's spec names none.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write weights, log and a card into this new folder, for `weights` in the spec.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Train there.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the training.")
@options.results("-o")
@options.include
@options.as_json
def command(
    model: str,
    task: str | None,
    output: Path | None,
    device: Any,
    threads: int | None,
    results: Path,
    include: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Train the model of a spec, or resume its training, and print how good it is.

    The model is kept in the results folder, as `harness run` does, which then uses it. Weights that
    the spec names are left alone. The numbers are of held-out prompts (split test).
    """
    from dataclasses import replace

    from harness.cli.choose import default_runtime, log
    from harness.datasets.check import check_task
    from harness.errors import HarnessError
    from harness.runs.plan import ModelSource
    from harness.runs.services.shipping.models import ship, train
    from harness.runs.store.record import model_store
    from harness.spec.issues import spec_error
    from harness.spec.load import Library

    library = Library(include)
    # Weights are not looked at: those that do not fit are what this is to replace.
    if issues := library.issues(library.find("model", model), "model"):
        raise spec_error(issues)
    loaded = library.model(model)
    if task is None and loaded.trained_on is None:
        raise HarnessError(
            f"model {model!r} names no task to train on or to be measured on; give one with --task"
        )
    if task is not None and loaded.trained_on is not None:
        raise HarnessError(f"model {model!r} is trained on the task that its spec names")
    if output is not None and output.exists():
        raise HarnessError(f"{output} is there already; remove it, or give another --output")
    trained_on = loaded.trained_on or library.task(str(task))
    if issues := check_task(trained_on):
        raise spec_error(issues)
    runtime = default_runtime(library)
    runtime = replace(runtime, device=device or runtime.device, threads=threads or runtime.threads)
    trained = train(
        trained_on, ModelSource.named(loaded, model), runtime, model_store(results), log
    )
    if output is not None:
        ship(trained, output)
        log(f"wrote {output}; name it as `weights` in the spec to use it without training")
    report = _report(trained)
    say(json.dumps(report, indent=1, allow_nan=False) if as_json else _text(report))


def _report(trained: TrainedModel) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "model": trained.cell.model_name,
        "model_id": trained.cell.model_id,
        "folder": str(trained.folder.folder),
        "steps": trained.note["history"][-1]["step"],
        "quality": {name: dict(one) for name, one in trained.quality.items()},
    }


def _text(report: dict[str, Any]) -> str:
    from harness.reports.text import grid
    from harness.spec.printable import printable

    lines = [
        [name, f"{one['value']:.4f} ± {one['se']:.4f}", str(one["n"])]
        for name, one in report["quality"].items()
    ]
    head = f"{report['model']} ({report['model_id'][:12]}), {report['steps']:,} steps"
    table = grid(["held-out", "mean ± standard error", "prompts"], lines, "github")
    return f"{printable(head)}\n\n{table}"
