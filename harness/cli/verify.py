"""`harness verify`: check that stored results are what was published."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from harness.cli import options
from harness.cli.say import say


@click.command("verify")
@click.argument("run", required=False)
@options.results("-o")
@options.include
def command(run: str | None, results: Path, include: tuple[Path, ...]) -> int:
    """Check schema and digests of every cell of RUN, and of the models that the runs share.

    Models include their true circuits and the weights that lie beside specs; runs their record and
    why cells failed.

    Without RUN, of all runs in the results folder. All faults are listed; exit 3 if any.
    """
    from harness.cli.choose import note_faults, run_folders
    from harness.errors import StoreCorrupt
    from harness.runs.services.shipping.models import all_shipped
    from harness.runs.store import CellStore
    from harness.runs.store.record import entries_of, model_store
    from harness.spec.load import Library

    faults: list[str] = []
    stores = [CellStore(folder) for folder in run_folders((run,) if run else (), results)]
    checks: list[Callable[[], object]] = []
    for store in stores:
        checks.append(partial(entries_of, store.folder))
        checks += [partial(store.verify, cell_id) for cell_id in store.ids()]
        checks += [partial(store.failure, cell_id) for cell_id in store.failed_ids()]
    models_here = model_store(results)
    for models in (models_here, models_here.truths, models_here.dictionaries):
        checks += [partial(models.verify, model_id) for model_id in models.ids()]
    checks += [sealed.check for sealed in all_shipped(Library(include))]
    for check in checks:
        try:
            check()
        except StoreCorrupt as error:
            faults.append(str(error))
    say(f"{len(checks)} cells, models and records checked, {len(faults)} corrupt")
    return note_faults(faults)
