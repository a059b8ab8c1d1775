"""`harness merge`: results of several people or machines in one folder."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import options
from harness.cli.say import say


@click.command("merge")
@click.argument("sources", nargs=-1, required=True, type=options.FOLDER, metavar="FOLDER...")
@options.results("-o")
def command(sources: tuple[Path, ...], results: Path) -> int:
    """Copy the runs and models of results folders into the results folder.

    Cells are joined by their ids, which hold all that can move their numbers. Nothing that is
    there is overwritten: a cell or model that has another content in both folders is named, and
    the one that was there first is kept; exit 1 then. A damaged one is named and left out; exit 3.
    """
    from harness.cli.choose import log, note_faults
    from harness.runs.store.joining import join
    from harness.spec.printable import printable

    conflicts, faults = 0, []
    for source in sources:
        joined = join(source, results)
        say(
            printable(
                f"{source}: {joined.cells} cells and {joined.models} models are new in {results}, "
                f"{joined.same} were there, {len(joined.conflicts)} conflicts"
            )
        )
        for conflict in joined.conflicts:
            log(f"conflict: {conflict}")
        conflicts += len(joined.conflicts)
        faults += joined.faults
    return note_faults(faults) or int(conflicts > 0)
