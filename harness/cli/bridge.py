"""`harness bridge`: a sparse model beside a dense one, which its channels then steer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.cli import options
from harness.cli.say import say


@click.command("bridge")
@click.argument("dense")
@click.argument("sparse")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--task",
    required=True,
    help="Both are read on its prompts, and trained on its data where their specs name no other.",
)
@click.option(
    "--channel", help="Steer by this read channel, such as a1.in.17; default: the strongest."
)
@click.option(
    "--circuit",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Choose the channel among those that this circuit file keeps.",
)
@click.option("--strengths", default="0,0.05,0.1,0.25,0.5,1", show_default=True)
@click.option("--nmse", type=click.FloatRange(min=0), default=1.0, show_default=True)
@click.option("--kl", type=click.FloatRange(min=0), default=1.0, show_default=True)
@options.results("-o")
@options.include
@options.as_json
def command(
    dense: str,
    sparse: str,
    folder: Path,
    task: str,
    channel: str | None,
    circuit: Path | None,
    strengths: str,
    nmse: float,
    kl: float,
    results: Path,
    include: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Train the model spec SPARSE coupled to the frozen model DENSE, into FOLDER.

    A folder that holds this bridge already is used as it is. Then a channel's change between
    prompt twins is carried over to the dense model, and the probability of the partner's answer is
    shown against strength, beside random channels and random directions.
    """
    from harness.bridges.coupled import Prices
    from harness.bridges.study import BridgeRequest, study_bridge
    from harness.cli.choose import checked_task, default_runtime, log, model_source
    from harness.runs.store.record import model_store
    from harness.spec.load import Library

    library = Library(include)
    loaded = checked_task(library, task)
    request = BridgeRequest(
        loaded,
        model_source(library, loaded, dense),
        model_source(library, loaded, sparse),
        default_runtime(library),
        folder,
        channel,
        circuit,
        _numbers(strengths),
        Prices(nmse, kl),
    )
    report = study_bridge(request, model_store(results), log)
    say(json.dumps(report, indent=1, allow_nan=False) if as_json else _text(report))


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in text.split(","))
    except ValueError:
        raise click.UsageError(f"--strengths wants numbers, as 0,0.1,1, not {text!r}") from None


def _text(report: dict[str, Any]) -> str:
    from harness.bridges.study import TERMS
    from harness.reports.text import grid

    history, steered = report["history"], report["transfer"]
    shown = [history[0], history[len(history) // 2], history[-1]]
    training = grid(
        ["step", "loss", *TERMS],
        [
            [str(one["step"]), f"{one['training_loss']:.4f}", *(f"{one[t]:.4f}" for t in TERMS)]
            for one in shown
        ],
        "github",
    )
    kinds = ("steered", "random_channel", "random_direction")
    columns = [steered["strengths"], *(steered[kind]["partner"] for kind in kinds)]
    rows = [
        [f"{strength:g}", *(f"{one:.4f}" for one in each)]
        for strength, *each in zip(*columns, strict=True)
    ]
    effects = grid(
        ["strength", f"by {steered['channel']}", "random channels", "random directions"],
        rows,
        "github",
    )
    head = f"{report['sparse_name']} beside {report['dense_name']} on {report['task']}"
    return (
        f"{head}\n\n{training}\n\n"
        f"p(partner's answer) of {report['dense_name']}, {steered['n']} prompts\n\n{effects}"
    )
