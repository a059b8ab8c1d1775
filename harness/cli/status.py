"""`harness status`: which cells of a run are done, failed, running or missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.cli import options
from harness.cli.say import say

LONGEST = 300
"""Characters of a field of the table."""


@click.command("status")
@click.argument("run", required=False)
@options.results("-o")
@options.as_json
def command(run: str | None, results: Path, as_json: bool) -> None:
    """Show the state of every cell of RUN (a folder, or a name in the results folder).

    Without RUN, of all runs there.
    """
    from harness.cli.choose import note_skipped, run_folders
    from harness.runs.store.record import skipped_of

    folders = run_folders((run,) if run else (), results)
    data = [_data(folder) for folder in folders]
    if as_json:
        say(json.dumps(data, indent=1))
        return
    for one in data:
        say(_text(one))
    note_skipped(one for folder in folders for one in skipped_of(folder))


def _data(folder: Path) -> dict[str, Any]:
    from harness.runs.store import CellStore
    from harness.runs.store.record import entries_of, skipped_of, status_of

    store = CellStore(folder)
    cells = []
    for entry in entries_of(folder):
        status: str = status_of(entry, store)
        failure = store.failure(entry.id) if status == "failed" else None
        if status in ("missing", "failed") and store.is_claimed(entry.id):
            status = "running"
        cells.append(
            {
                "cell": entry.id,
                "task": entry.task,
                "variant": entry.variant,
                "model": entry.model,
                "method": entry.method,
                "seed": entry.seed,
                "limit": entry.limit,
                "status": status,
                "reason": "" if failure is None else failure["error"]["message"],
            }
        )
    counts = {
        name: sum(cell["status"] == name for cell in cells)
        for name in ("ok", "smoke", "failed", "running", "missing")
    }
    left_out = [vars(one) for one in skipped_of(folder)]
    return {"run": str(folder), "counts": counts, "left_out": left_out, "cells": cells}


def _text(data: dict[str, Any]) -> str:
    from harness.reports.text import grid
    from harness.spec.printable import printable

    every = ("task", "variant", "model", "method", "seed", "limit", "status", "reason")
    columns = [
        name for name in every if any(cell[name] not in ("", None) for cell in data["cells"])
    ]
    lines = [
        [cell["cell"][:12], *(_field(cell[name]) for name in columns)] for cell in data["cells"]
    ]
    counts = ", ".join(f"{count} {name}" for name, count in data["counts"].items() if count)
    head = printable(f"{data['run']}: {counts or 'no cells'}")
    return f"{head}\n\n{grid(['cell', *columns], lines, 'github', tight=True)}\n"


def _field(value: object) -> str:
    """A field of the table; why a cell failed may be a page long, and --json has all of it."""
    from harness.reports.text import elided

    return "" if value is None else elided(str(value), LONGEST)
