"""A comparison as text: the table as far as it fits, and what has to be said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.reports.compare import Comparison, TaskDifference
from harness.reports.resample import Estimate
from harness.reports.text import Format, grid, number, wrapped
from harness.spec.printable import printable

Column = tuple[str, Callable[[TaskDifference], str]]
_WORDS = ("task", "model", "A − B", "verdict")
"""Columns that hold no numbers."""


def comparison_text(comparison: Comparison, width: int) -> str:
    """The table in Markdown, at most `width` wide, and sentences below it."""
    columns, more = _columns(comparison)
    text, left_out = comparison_table(comparison, "github"), ""
    if len(text.partition("\n")[0]) > width:
        text = _grid(comparison, columns, "github")
        left_out = f"Left out to fit {width} columns: {more[-2][0]}, which --json has."
    parts = [left_out, *sentences(comparison)]
    return "\n\n".join([text, *(wrapped(printable(part), width) for part in parts if part)])


def comparison_table(comparison: Comparison, form: Format) -> str:
    """All columns of the table in one of the formats for people."""
    columns, more = _columns(comparison)
    return _grid(comparison, [*columns[:-1], *more, columns[-1]], form)


def sentences(comparison: Comparison) -> Iterator[str]:
    """Who is ahead how often, what has no counterpart, and what makes a difference mean less."""
    yield (
        f"A = {comparison.a}, B = {comparison.b}. By CMD (less is better) A has "
        f"{comparison.count('A better')} wins, {comparison.count('tie')} ties, "
        f"{comparison.count('B better')} losses; a tie is an interval that holds zero."
    )
    if comparison.unpaired:
        yield f"Only on one side: {'; '.join(comparison.unpaired)}."
    yield from comparison.remarks
    if comparison.damaged:
        yield f"Damaged, left out: {'; '.join(comparison.damaged)}."


def _columns(comparison: Comparison) -> tuple[list[Column], list[Column]]:
    """Columns that are always shown, the verdict last, and those that a narrow window lacks."""
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
    return columns, more


def _grid(comparison: Comparison, columns: list[Column], form: Format) -> str:
    left = [place for place, (name, _) in enumerate(columns) if name in _WORDS]
    lines = [[text(one) for _, text in columns] for one in comparison.tasks]
    return grid([name for name, _ in columns], lines, form, left=left, tight=True)


def _ends(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return "not defined"
    return f"({number(estimate.low, 3)}, {number(estimate.high, 3)})"
