"""`harness plan`: show what a run would compute."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options
from harness.cli.say import say

if TYPE_CHECKING:
    from harness.runs.plan import Plan

COLUMNS = ("task", "variant", "model", "method", "seeds", "limit", "state", "time")


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
    """Show what of SPEC is stored and what is new, and how long that will take.

    SPEC is a suite, a task, or the path of either (default: the suite quickstart). With --json
    every cell with its id.
    """
    from harness.cli.choose import note_skipped, overrides, plans

    chosen = plans(specs, include, overrides(**grid))
    data = [_data(plan, results) for plan in chosen]
    if as_json:
        say(json.dumps(data, indent=1))
    else:
        for one in data:
            say(_text(one, options.window()))
    note_skipped(one for plan in chosen for one in plan.skipped)


def _data(plan: Plan, results: Path) -> dict[str, Any]:
    from harness.runs.services.forecasts.forecast import forecast
    from harness.runs.store import CellStore
    from harness.runs.store.record import model_store

    store, models = CellStore(results / plan.name), model_store(results)
    todo = [cell for cell in plan.cells if not store.has(cell.id)]
    ahead = forecast(todo, results, models)
    cells = [
        {"cell": cell.id, "model_id": cell.model_id, **cell.labels(), "state": state}
        | ({"seconds": ahead.cells[cell.id].seconds} if cell.id in ahead.cells else {})
        for cell in plan.cells
        for state in [_state(store, cell.id)]
    ]
    needed = {cell["model_id"] for cell in cells if cell["state"] != "reused"}
    codes = {cell.dictionaries.id: cell.dictionaries for cell in todo if cell.dictionaries}
    low, high = ahead.bounds
    return {
        "run": str(results / plan.name),
        "reused": sum(cell["state"] == "reused" for cell in cells),
        "new": sum(cell["state"] == "new" for cell in cells),
        "failed": sum(cell["state"] == "failed" for cell in cells),
        "models_to_train": [
            {
                "model": group[0].model_name,
                "model_id": model_id,
                "seconds": ahead.trainings[model_id].seconds,
            }
            for model_id, group in plan.by_model.items()
            if model_id in needed and group[0].trains and not models.exists(model_id)
        ],
        "dictionaries_to_train": [
            {
                "dictionary": one.name,
                "dictionary_id": one.id,
                "seconds": ahead.dictionaries[one.id].seconds,
            }
            for one in codes.values()
            if one.trains and not models.dictionaries.exists(one.id)
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


def _text(data: dict[str, Any], width: int) -> str:
    from harness.progress import duration
    from harness.reports.text import grid, wrapped
    from harness.spec.printable import printable

    rows = [*_rows(data)]
    shown = [index for index in range(len(COLUMNS)) if any(row[index] for row in rows)]
    table = grid(
        [COLUMNS[index] for index in shown],
        [[row[index] for index in shown] for row in _without_repeats(rows)],
        "github",
        [place for place, index in enumerate(shown) if COLUMNS[index] != "time"],
        tight=True,
    )
    names = [model["model"] for model in data["models_to_train"]]
    after = (
        f"{data['run']}: {data['reused']} cells reused, {data['new']} new, {data['failed']} "
        f"failed before and tried again; models to train: {', '.join(names) or 'none'}"
    )
    untrained = [
        f"{one['dictionary']} (about {duration(one['seconds'])})"
        for one in data["dictionaries_to_train"]
    ]
    if untrained:
        after += f"; dictionaries to train: {', '.join(untrained)}"
    return "\n\n".join(
        [table, wrapped(printable(after), width) + f"\n{wrapped(_expected(data), width)}"]
    )


def _rows(data: dict[str, Any]) -> Iterator[list[str]]:
    """`COLUMNS` of every method, and before its first cell of every model that is trained."""
    from harness.progress import duration

    untrained = {one["model_id"]: one["seconds"] for one in data["models_to_train"]}
    for cells in _by_method(data["cells"]):
        row = _row(cells)
        if (seconds := untrained.pop(cells[0]["model_id"], None)) is not None:
            yield [*row[:3], "(training)", "", "", "new", duration(seconds)]
        yield row


def _by_method(cells: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Cells that differ in the seed alone, in the order of the plan."""
    names = ("task", "variant", "model", "method", "limit")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell[name] for name in names), []).append(cell)
    yield from groups.values()


def _row(cells: list[dict[str, Any]]) -> list[str]:
    """`COLUMNS` of cells that differ in the seed alone."""
    from harness.progress import duration

    first = cells[0]
    states = Counter(cell["state"] for cell in cells)
    seconds = [cell["seconds"] for cell in cells if "seconds" in cell]
    return [
        first["task"],
        first["variant"],
        first["model"],
        first["method"] + (" (control)" if first["role"] == "control" else ""),
        ", ".join(str(cell["seed"]) for cell in cells),
        "" if first["limit"] is None else str(first["limit"]),
        ", ".join(state if len(states) == 1 else f"{n} {state}" for state, n in states.items()),
        duration(sum(seconds)) if seconds else "",
    ]


def _without_repeats(rows: list[list[str]]) -> Iterator[list[str]]:
    """Rows whose task, variant and model are left empty where the row before has the same."""
    before: list[str] = []
    for row in rows:
        yield (["", "", "", *row[3:]] if row[:3] == before else row)
        before = row[:3]


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
