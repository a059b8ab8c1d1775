"""`harness overlap`: what circuits share, over seeds and between tasks, without running a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options

if TYPE_CHECKING:
    from harness.runs.services.lookup import NamedCircuit

Shown = tuple[str, str]


@click.command("overlap")
@click.argument("circuits", nargs=-1, required=True, metavar="CIRCUIT...")
@options.circuit_size
@click.option("--task", help="Of RUN:METHOD only cells of this task.")
@click.option("--variant", help="Of RUN:METHOD only cells of this evaluation of the suite.")
@options.results("-o")
@options.as_json
def command(
    circuits: tuple[str, ...],
    size: float | None,
    task: str | None,
    variant: str | None,
    results: Path,
    as_json: bool,
) -> None:
    """Overlap (IoU) of the edges and of the heads and MLPs of each CIRCUIT.

    Each is a circuit file, the beginning of a cell's id, RUN:CELL, or RUN:METHOD for the circuits
    of all its seeds. Several circuits of one name are compared with each other, and with those of
    every other name. Give --size, so that circuits of cells have about equally many edges.
    """
    from harness.runs.services.lookup import find_circuits
    from harness.runs.services.overlap import overlap_of

    groups: dict[str, list[NamedCircuit]] = {
        name: find_circuits(results, name, size, task, variant) for name in circuits
    }
    if sum(map(len, groups.values())) < 2:
        raise click.UsageError("one circuit alone has no overlap; name another, or RUN:METHOD")
    found = overlap_of(groups)
    click.echo(json.dumps(found, indent=1, allow_nan=False) if as_json else _text(found))


# ---------------------------------------------------------------- what was found
def share(value: float | None) -> str:
    """A share in [0, 1] to three digits."""
    return "not defined" if value is None else f"{value:.3f}"


def consistency_shown(found: Mapping[str, Any]) -> Shown:
    """A `Consistency`: its mean with the interval, and in words its range and what luck gives."""
    from harness.reports.text import plus_minus

    half = None if found["low"] is None else (found["high"] - found["low"]) / 2
    mean = "not defined" if found["mean"] is None else plus_minus(found["mean"], half)
    return mean, _range(found)


def _range(found: Mapping[str, Any]) -> str:
    ends = f"{share(found['least'])} to {share(found['most'])}"
    return f"{ends}; by luck {share(found['expected'])}"


def _text(found: Mapping[str, Any]) -> str:
    from harness.reports.text import grid
    from harness.spec.printable import printable

    lines = []
    for group in found["groups"]:
        sizes = sorted(one["size"] for one in group["circuits"])
        edges = f"{sizes[0]}" if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
        total = group["circuits"][0]["total"]
        lines.append(f"{group['name']}: {len(sizes)} of {edges} edges out of {total}.")
    rows = []
    for kind in ("edges", "nodes"):
        for group in found["groups"]:
            if group[kind] is not None:
                title = f"{kind}, {group[kind]['n']} of {group['name']}"
                rows.append([title, *consistency_shown(group[kind])])
        for pair in found["between"]:
            one = pair[kind]
            note = f"{_range(one)}; {share(one['of_smaller'])} of the smaller"
            rows.append([f"{kind}, {pair['a']} with {pair['b']}", share(one["mean"]), note])
        together = found["together"][kind]
        if together is not None and together["n"] > 2:
            rows.append([f"{kind}, all {together['n']}", *consistency_shown(together)])
    table = grid(["circuits", "mean IoU", "range"], rows, "github")
    note = "± is half of the 95 % jackknife interval over circuits."
    return "\n".join(map(printable, lines)) + f"\n\n{table}\n\n{note}"
