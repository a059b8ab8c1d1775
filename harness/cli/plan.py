"""`harness plan`: show what a run would compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options

if TYPE_CHECKING:
    from harness.runs.plan import Plan


@click.command("plan")
@click.argument("specs", nargs=-1, metavar="[SPEC]...")
@options.results("-o")
@options.grid
@options.include
@options.as_json
def command(
    specs: tuple[str, ...],
    results: Path,
    include: tuple[Path, ...],
    as_json: bool,
    **grid: Any,
) -> None:
    """Show the cells of SPEC, which are stored and which are new, and how long these will take.

    SPEC is a suite, a task, or the path of either (default: the suite quickstart).
    """
    from harness.cli.choose import note_skipped, overrides, plans

    chosen = plans(specs, include, overrides(**grid))
    data = [_data(plan, results) for plan in chosen]
    if as_json:
        click.echo(json.dumps(data, indent=1))
    else:
        for one in data:
            click.echo(_text(one))
    note_skipped(one for plan in chosen for one in plan.skipped)


def _data(plan: Plan, results: Path) -> dict[str, Any]:
    from harness.runs.services.forecast import forecast
    from harness.runs.store import CellStore
    from harness.runs.store.record import model_store

    store, models = CellStore(results / plan.name), model_store(results)
    cells = [
        {"cell": cell.id, "model_id": cell.model_id, **cell.labels(), "state": state}
        for cell in plan.cells
        for state in [_state(store, cell.id)]
    ]
    needed = {cell["model_id"] for cell in cells if cell["state"] != "reused"}
    ahead = forecast((cell for cell in plan.cells if not store.has(cell.id)), results, models)
    low, high = ahead.bounds
    return {
        "run": str(results / plan.name),
        "reused": sum(cell["state"] == "reused" for cell in cells),
        "new": sum(cell["state"] == "new" for cell in cells),
        "failed": sum(cell["state"] == "failed" for cell in cells),
        "models_to_train": [
            {"model": group[0].model_name, "model_id": model_id}
            for model_id, group in plan.by_model.items()
            if model_id in needed and group[0].trains and not models.exists(model_id)
        ],
        "expected": {
            "seconds": ahead.seconds,
            "low": low,
            "high": high,
            "memory_mib": ahead.mib,
            "unknown_cells": list(ahead.unknown),
        },
        "left_out": [vars(one) for one in plan.skipped],
        "cells": cells,
    }


def _state(store: Any, cell_id: str) -> str:
    if store.has(cell_id):
        return "reused"
    return "new" if store.failure_mark(cell_id) is None else "failed"


def _text(data: dict[str, Any]) -> str:
    from harness.reports.text import grid
    from harness.spec.printable import printable

    varied = ("variant",) if any(cell["variant"] for cell in data["cells"]) else ()
    columns = ("task", *varied, "model", "method", "role", "seed", "limit", "state")
    lines = [
        [cell["cell"][:12], *("" if cell[c] is None else str(cell[c]) for c in columns)]
        for cell in data["cells"]
    ]
    names = [f"{m['model']} ({m['model_id'][:12]})" for m in data["models_to_train"]]
    return "\n\n".join(
        [
            grid(["cell", *columns], lines, "github"),
            printable(
                f"{data['run']}: {data['reused']} cells reused, {data['new']} new, "
                f"{data['failed']} failed before and tried again; "
                f"models to train: {', '.join(names) or 'none'}"
            )
            + f"\n{_expected(data)}",
        ]
    )


def _expected(data: dict[str, Any]) -> str:
    """How long it will take, and how much memory, in a line."""
    from harness.progress import duration

    if not data["new"] + data["failed"]:
        return "nothing to compute"
    one, unknown = data["expected"], len(data["expected"]["unknown_cells"])
    line = (
        f"about {duration(one['seconds'])} ({duration(one['low'])} to {duration(one['high'])}) in "
        f"one process on an idle machine, with up to {one['memory_mib']:,.0f} MiB of memory"
    )
    more = "" if not unknown else f"; not counting {unknown} cells whose cost nobody can tell yet"
    return line + more
