"""`harness overlap`: overlap of circuits, over seeds and between tasks, without running a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options
from harness.cli.say import say

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
    """Show the overlap (IoU) of circuits: of their edges, and of their heads and MLPs.

    Each is a circuit file, the beginning of a cell's id, RUN:CELL, or RUN:METHOD for the circuits
    of all its seeds. Several circuits of one name are compared with each other, and with those of
    every other name. Give --size, so that circuits of cells are of about the same size.
    """
    from harness.runs.services.lookup import find_circuits
    from harness.runs.services.overlap import overlap_of

    groups: dict[str, list[NamedCircuit]] = {
        name: find_circuits(results, name, size, task, variant) for name in circuits
    }
    if sum(map(len, groups.values())) < 2:
        raise click.UsageError("one circuit alone has no overlap; name another, or RUN:METHOD")
    report = overlap_of(groups)
    say(json.dumps(report, indent=1, allow_nan=False) if as_json else _text(report))


# ---------------------------------------------------------------- the report as text
def share(value: float | None) -> str:
    """A share in [0, 1] to three digits."""
    return "not defined" if value is None else f"{value:.3f}"


def consistency_shown(agreement: Mapping[str, Any]) -> Shown:
    """A `Consistency`: its mean with the interval, and in words its range and that of chance."""
    from harness.reports.text import plus_minus

    half = None if agreement["low"] is None else (agreement["high"] - agreement["low"]) / 2
    mean = "not defined" if agreement["mean"] is None else plus_minus(agreement["mean"], half)
    return mean, _range(agreement)


def _range(agreement: Mapping[str, Any]) -> str:
    ends = f"{share(agreement['least'])} to {share(agreement['most'])}"
    return f"{ends}; by chance {share(agreement['expected'])}"


def _text(report: Mapping[str, Any]) -> str:
    from harness.reports.text import grid
    from harness.spec.printable import printable

    lines = []
    for group in report["groups"]:
        sizes = sorted(one["size"] for one in group["circuits"])
        size = f"{sizes[0]}" if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
        total = group["circuits"][0]["total"]
        lines.append(f"{group['name']}: {len(sizes)} of {size} {report['unit']} out of {total}.")
    rows = []
    for kind, title in (("elements", report["unit"]), ("nodes", "nodes")):
        for group in report["groups"]:
            if group[kind] is not None:
                label = f"{title}, {group[kind]['n']} of {group['name']}"
                rows.append([label, *consistency_shown(group[kind])])
        for pair in report["between"]:
            one = pair[kind]
            note = f"{_range(one)}; {share(one['of_smaller'])} of the smaller"
            rows.append([f"{title}, {pair['a']} with {pair['b']}", share(one["mean"]), note])
        together = report["together"][kind]
        if together is not None and together["n"] > 2:
            rows.append([f"{title}, all {together['n']}", *consistency_shown(together)])
    table = grid(["circuits", "mean IoU", "range"], rows, "github")
    note = "± is half of the 95 % jackknife interval over circuits."
    return "\n".join(map(printable, lines)) + f"\n\n{table}\n\n{note}"
