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
    from harness.reports.screens.comparison import comparison_text
    from harness.runs.store.record import faults_of

    sides = find_side(results, a), find_side(results, b)
    comparison = compare(*sides, size)
    if as_json:
        say(json.dumps(_data(comparison), indent=1))
    else:
        say(comparison_text(comparison, options.window()))
    return note_faults(faults_of([cell for side in sides for cell in side.damaged]))


def _data(comparison: Comparison) -> dict[str, object]:
    return {
        **asdict(comparison),
        "wins": comparison.count("A better"),
        "ties": comparison.count("tie"),
        "losses": comparison.count("B better"),
    }
