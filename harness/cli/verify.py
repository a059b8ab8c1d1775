"""`harness verify`: check that stored results are what was published."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import options


@click.command("verify")
@click.argument("run", required=False)
@options.results("-o")
def command(run: str | None, results: Path) -> int:
    """Check schema and digests of every cell of RUN, and of the models the runs share.

    Without RUN, of all runs in the results folder. All faults are listed; exit 3 if any.
    """
    from harness.cli.choose import run_folders
    from harness.errors import StoreCorrupt
    from harness.runs.store import CellStore
    from harness.runs.store.record import model_store

    faults: list[StoreCorrupt] = []
    checked = 0
    stores = [CellStore(folder) for folder in run_folders((run,) if run else (), results)]
    models = model_store(results)
    checks = [(store.verify, cell_id) for store in stores for cell_id in store.ids()]
    for check, name in [*checks, *((models.verify, model_id) for model_id in models.ids())]:
        checked += 1
        try:
            check(name)
        except StoreCorrupt as error:
            faults.append(error)
    for fault in faults:
        click.echo(f"corrupt: {fault}", err=True)
    click.echo(f"{checked} cells and models checked, {len(faults)} corrupt")
    return StoreCorrupt.exit_code if faults else 0
