"""`harness compare`: compare two methods, runs or cells, with intervals."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import options

if TYPE_CHECKING:
    from harness.reports.compare import Comparison


@click.command("compare")
@click.argument("a")
@click.argument("b")
@options.results("-o")
@options.size
@options.as_json
def command(a: str, b: str, results: Path, size: float, as_json: bool) -> int:
    """Compare A with B, paired by task, seed and test example.

    Each is RUN, RUN:method, a method of the stored runs, or the beginning of a cell's id.
    Differences are A − B: a negative one of CMD says that A is better. Damaged cells are named and
    left out; exit 3 if there are any.
    """
    from harness.cli.choose import note_faults
    from harness.reports.compare import compare, find_side
    from harness.runs.store.record import faults_of

    sides = find_side(results, a), find_side(results, b)
    comparison = compare(*sides, size)
    if as_json:
        click.echo(json.dumps(_data(comparison), indent=1))
    else:
        click.echo(_text(comparison))
    return note_faults(faults_of([cell for side in sides for cell in side.damaged]))


def _data(comparison: Comparison) -> dict[str, object]:
    return {
        **asdict(comparison),
        "wins": comparison.count("A better"),
        "ties": comparison.count("tie"),
        "losses": comparison.count("B better"),
    }


def _text(comparison: Comparison) -> str:
    from harness.reports.resample import Estimate
    from harness.reports.text import grid, number
    from harness.spec.printable import printable

    def ends(estimate: Estimate) -> str:
        if estimate.low is None or estimate.high is None:
            return "not defined"
        return f"({number(estimate.low, 3)}, {number(estimate.high, 3)})"

    lines = [
        [
            f"{one.task}, {one.variant}" if one.variant else one.task,
            one.model,
            f"{one.method_a} − {one.method_b}",
            str(one.seeds),
            number(one.cmd.value, 3),
            ends(one.cmd),
            f"{100 * one.at_size:g}%",
            number(one.faithfulness.value, 3),
            ends(one.faithfulness),
            one.verdict,
        ]
        for one in comparison.tasks
    ]
    headers = [
        "task",
        "model",
        "A − B",
        "seeds",
        "ΔCMD",
        "95 % interval",
        "at size",
        "Δfaithfulness",
        "95 % interval",
        "verdict",
    ]
    text = (
        f"A = {comparison.a}, B = {comparison.b}. By CMD (less is better) A has "
        f"{comparison.count('A better')} wins, {comparison.count('tie')} ties, "
        f"{comparison.count('B better')} losses; a tie is an interval that holds zero."
    )
    left = f"Only on one side: {'; '.join(comparison.unpaired)}." if comparison.unpaired else ""
    damaged = f"Damaged, left out: {'; '.join(comparison.damaged)}." if comparison.damaged else ""
    parts = [grid(headers, lines, "github"), *map(printable, (text, left, damaged))]
    return "\n\n".join(part for part in parts if part)
