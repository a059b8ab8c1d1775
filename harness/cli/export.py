"""`harness export`: circuits of a run in the format of another tool."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli import options
from harness.cli.say import say


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
@click.option(
    "--circuits",
    is_flag=True,
    help="Nine circuits of at most 0.1 to 50 % of the edges in place of scores.",
)
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
    circuits: bool,
    target: Path,
    results: Path,
    as_json: bool,
) -> None:
    """Write the edge scores that one method gave in RUN, for each of its tasks and models.

    A method that does not cut all sizes from one ranking (learned masks, searches) has the scores
    written that its stored circuit was cut from; --circuits writes the circuits that were measured,
    as the leaderboard takes them, and --size the one of one size.
    """
    from harness.runs.services.export import export_mib, export_mib_circuits, too_few
    from harness.runs.store.record import find_run, load_cells
    from harness.spec.printable import printable

    if circuits and size is not None:
        raise click.UsageError("--circuits writes nine sizes and --size one: give one of them")
    cells = load_cells(find_run(results, run))
    if circuits:
        written = export_mib_circuits(cells, method, seed, target, f".{suffix}")
    else:
        written = export_mib(cells, method, seed, target, f".{suffix}", size)
    if as_json:
        data = [
            {
                "path": str(one.path),
                "cell": one.cell,
                "on_board": one.on_board,
                "cut_from": one.cut_from,
                "edges": one.edges,
                "edges_total": one.edges_total,
            }
            for one in written
        ]
        say(json.dumps(data, indent=1))
        return
    for one in written:
        path = printable(str(one.path))
        say(path)
        if circuits:
            say(f"{path}: {one.edges} of {one.edges_total} edges", err=True)
        if one.cut_from != "scores":
            say(
                f"{path}: the stored circuit was cut from {one.cut_from}, circuits of other "
                "sizes from others; --circuits writes the circuits of nine sizes",
                err=True,
            )
    folders = {one.path.parent.name: one.on_board for one in written}
    if strange := [printable(name) for name, on_board in folders.items() if not on_board]:
        say(
            f"the leaderboard has no task and model called {', '.join(strange)}; the files can be "
            "read by its code, but not be submitted",
            err=True,
        )
    if too_few(written):
        say("the leaderboard takes two tasks and two models or more at once", err=True)
