"""`harness compare`: compare two methods, runs or cells, with intervals."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import options
from harness.cli.say import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.reports.compare import Comparison, TaskDifference
    from harness.reports.resample import Estimate


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
        say(json.dumps(_data(comparison), indent=1))
    else:
        say(_text(comparison))
    return note_faults(faults_of([cell for side in sides for cell in side.damaged]))


def _data(comparison: Comparison) -> dict[str, object]:
    return {
        **asdict(comparison),
        "wins": comparison.count("A better"),
        "ties": comparison.count("tie"),
        "losses": comparison.count("B better"),
    }


def _text(comparison: Comparison) -> str:
    from harness.reports.text import wrapped
    from harness.spec.printable import printable

    width = options.window()
    table, remarks = _table(comparison, width)
    text = (
        f"A = {comparison.a}, B = {comparison.b}. By CMD (less is better) A has "
        f"{comparison.count('A better')} wins, {comparison.count('tie')} ties, "
        f"{comparison.count('B better')} losses; a tie is an interval that holds zero."
    )
    left = f"Only on one side: {'; '.join(comparison.unpaired)}." if comparison.unpaired else ""
    damaged = f"Damaged, left out: {'; '.join(comparison.damaged)}." if comparison.damaged else ""
    parts = [*remarks, text, left, *comparison.remarks, damaged]
    return "\n\n".join([table, *(wrapped(printable(part), width) for part in parts if part)])


Column = tuple[str, "Callable[[TaskDifference], str]"]


def _table(comparison: Comparison, width: int) -> tuple[str, list[str]]:
    """The table, and what did not fit."""
    from harness.reports.text import grid, number

    tasks = comparison.tasks
    sizes = list(dict.fromkeys(f"{100 * one.at_size:g}%" for one in tasks))
    at = sizes[0] if len(sizes) == 1 else "size"
    names = {(one.method_a, one.method_b) for one in tasks}
    several = len({(one.task, one.model) for one in tasks}) > len({one.task for one in tasks})
    columns: list[Column] = [
        ("task", lambda one: f"{one.task}, {one.variant}" if one.variant else one.task),
        *([("model", lambda one: one.model)] if several else []),
        *([("A − B", lambda one: f"{one.method_a} − {one.method_b}")] if len(names) > 1 else []),
        ("seeds", lambda one: str(one.seeds)),
        ("ΔCMD", lambda one: number(one.cmd.value, 3)),
        ("95 % interval", lambda one: _ends(one.cmd)),
        ("verdict", lambda one: one.verdict),
    ]
    more: list[Column] = [
        *([("size", lambda one: f"{100 * one.at_size:g}%")] if len(sizes) > 1 else []),
        (f"Δf @{at}", lambda one: number(one.faithfulness.value, 3)),
        ("95 % interval", lambda one: _ends(one.faithfulness)),
    ]

    def drawn(columns: list[Column]) -> str:
        left = [i for i, (name, _) in enumerate(columns) if name in ("task", "model", "verdict")]
        lines = [[text(one) for _, text in columns] for one in tasks]
        return grid([name for name, _ in columns], lines, "github", left=left, tight=True)

    whole = drawn([*columns[:-1], *more, columns[-1]])
    if len(whole.partition("\n")[0]) <= width:
        return whole, []
    return drawn(columns), [f"Left out to fit {width} columns: Δf @{at}, which --json has."]


def _ends(estimate: Estimate) -> str:
    from harness.reports.text import number

    if estimate.low is None or estimate.high is None:
        return "not defined"
    return f"({number(estimate.low, 3)}, {number(estimate.high, 3)})"
