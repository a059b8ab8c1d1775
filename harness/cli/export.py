"""`harness export`: circuits of a run in the form of another tool."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli import options


@click.command("export")
@click.argument("run")
@click.option(
    "--format",
    "form",
    type=click.Choice(["mib"]),
    default="mib",
    show_default=True,
    help="mib: a folder per task and model, as the MIB leaderboard takes them.",
)
@click.option("--method", required=True, help="Whose circuits to write.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.option(
    "--file", "suffix", type=click.Choice(["pt", "json"]), default="pt", show_default=True
)
@options.circuit_size
@click.option("--to", "target", type=options.FOLDER, required=True, help="Folder to write into.")
@options.results("-o")
@options.as_json
def command(
    run: str,
    form: str,
    method: str,
    seed: int,
    suffix: str,
    size: float | None,
    target: Path,
    results: Path,
    as_json: bool,
) -> None:
    """Write the edge scores that one method gave in RUN, for each of its tasks and models.

    A method that does not cut all sizes from one ranking (learned masks, searches) has the scores
    written that its stored circuit was cut from; --size writes exactly the circuit of one size.
    """
    from harness.runs.export import export_mib
    from harness.runs.record import find_run, load_cells

    cells = load_cells(find_run(results, run))
    written = export_mib(cells, method, seed, target, f".{suffix}", size)
    if as_json:
        data = [
            {
                "path": str(one.path),
                "cell": one.cell,
                "on_board": one.known,
                "cut_from": one.cut_from,
            }
            for one in written
        ]
        click.echo(json.dumps(data, indent=1))
        return
    for one in written:
        click.echo(one.path)
        if one.cut_from != "scores":
            click.echo(
                f"{one.path}: the stored circuit was cut from {one.cut_from}, circuits of other "
                "sizes from others; --size writes the circuit of one size",
                err=True,
            )
    if strange := [one.path.parent.name for one in written if not one.known]:
        click.echo(
            f"the leaderboard has no task and model called {', '.join(strange)}; the files can be "
            "read by its code, but not be submitted",
            err=True,
        )
