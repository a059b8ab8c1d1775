"""`harness why`: show what a cell's id depends on, and how it differs from stored ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options
from harness.cli.say import say

if TYPE_CHECKING:
    from harness.runs.store.record import PlannedCell

PlannedAt = tuple[Path, "PlannedCell"]


@click.command("why")
@click.argument("cell")
@options.results("-o")
@click.option("--spec", help="Look among the cells of this suite or task too.")
@options.include
@options.as_json
def command(
    cell: str, results: Path, spec: str | None, include: tuple[Path, ...], as_json: bool
) -> None:
    """Show what the id of CELL (its beginning will do) is made of.

    For a cell that is not stored, show what differs from the nearest one that is.
    """
    candidates = _candidates(results, spec, include)
    folder, entry = _pick(candidates, cell, results)
    data = _data(folder, entry, candidates)
    say(json.dumps(data, indent=1) if as_json else _text(data))


def _candidates(results: Path, spec: str | None, include: tuple[Path, ...]) -> list[PlannedAt]:
    from harness.cli.choose import overrides, plans
    from harness.runs.store.record import entries_of, entry_of, runs_root

    candidates = [(folder, entry) for folder in runs_root(results) for entry in entries_of(folder)]
    if spec is not None:
        for plan in plans((spec,), include, overrides()):
            candidates += [(results / plan.name, entry_of(cell)) for cell in plan.cells]
    return candidates


def _pick(candidates: list[PlannedAt], cell: str, results: Path) -> PlannedAt:
    from harness.runs.store import CellStore
    from harness.runs.store.record import by_beginning

    # A stored cell comes last, so that it counts before one that another run only planned.
    ordered = sorted(candidates, key=lambda one: CellStore(one[0]).has(one[1].id))
    return by_beginning(
        {entry.id: (folder, entry) for folder, entry in ordered},
        cell,
        f"no cell {cell!r} in the {len(candidates)} cells of {results}; "
        "`harness status` lists them, and --spec looks among planned ones",
    )


def _data(folder: Path, entry: PlannedCell, candidates: list[PlannedAt]) -> dict[str, Any]:
    from harness.runs.store import CellStore
    from harness.runs.store.record import status_of

    store = CellStore(folder)
    status = status_of(entry, store)
    data: dict[str, Any] = {
        "cell": entry.id,
        "run": str(folder),
        "status": status,
        "labels": {
            "task": entry.task,
            "model": entry.model,
            "method": entry.method,
            "role": entry.role,
        },
        "model_id": entry.model_id,
        "identity": entry.identity,
    }
    if status in ("ok", "smoke"):
        return data
    data["failure"] = store.failure(entry.id)
    stored = [(f, e) for f, e in candidates if e.id != entry.id and CellStore(f).has(e.id)]
    if stored:
        near, differences = _nearest(entry, [other for _, other in stored])
        data["nearest"] = {"cell": near.id, "differences": differences}
    return data


def _nearest(
    entry: PlannedCell, others: list[PlannedCell]
) -> tuple[PlannedCell, list[dict[str, Any]]]:
    """The stored cell with the fewest differing parts, preferring the same task and method."""

    def distance(other: PlannedCell) -> tuple[bool, bool, int]:
        differing = len(_differences(other.identity, entry.identity))
        return other.task != entry.task, other.method != entry.method, differing

    near = min(others, key=distance)
    return near, _differences(near.identity, entry.identity)


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    before, now = _leaves(stored), _leaves(wanted)
    return [
        {"where": where, "stored": before.get(where), "wanted": now.get(where)}
        for where in sorted(before.keys() | now.keys())
        if before.get(where, _ABSENT) != now.get(where, _ABSENT)
    ]


_ABSENT = object()


def _leaves(value: Any, where: str = "") -> dict[str, Any]:
    """Every scalar (and empty collection) of a JSON value by its dotted path."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    if not items:
        return {where: value}
    leaves: dict[str, Any] = {}
    for key, item in items:
        leaves |= _leaves(item, f"{where}.{key}" if where else str(key))
    return leaves


def _text(data: dict[str, Any]) -> str:
    from harness.spec.identity import digest
    from harness.spec.printable import printable

    labels = data["labels"]
    lines = [
        f"cell {data['cell']}",
        f"{labels['task']} {labels['method']} on {labels['model']}: "
        f"{data['status']} in {data['run']}",
        "its id is the digest of:",
    ]
    for name, part in sorted(data["identity"].items()):
        if isinstance(part, Mapping):
            lines.append(f"  {name} ({digest(part)[:12]})")
            lines += [f"    {where} = {_short(value)}" for where, value in _leaves(part).items()]
        else:
            lines.append(f"  {name} = {_short(part)}")
    if failure := data.get("failure"):
        lines.append(f"it failed at {failure['created']}:")
        lines += [f"  {line}" for line in failure["error"]["traceback"]]
        if not failure["error"]["traceback"]:
            lines.append(f"  {failure['error']['message']}")
    if nearest := data.get("nearest"):
        lines.append(f"nearest stored cell: {nearest['cell']}; it differs in")
        lines += [
            f"  {one['where']}: stored {_short(one['stored'])}, wanted {_short(one['wanted'])}"
            for one in nearest["differences"]
        ]
    elif data["status"] not in ("ok", "smoke"):
        lines.append("no other cell is stored")
    return "\n".join(printable(line) for line in lines)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"
