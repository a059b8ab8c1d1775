"""The leaderboard and the result rows as text: Markdown, LaTeX, HTML, CSV, JSON.

The text formats round for people. CSV and JSON keep every digit and the interval's ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from harness.reports.columns import BUSY_MARK, Layout, columns_for
from harness.reports.leaderboard import BUSY, Board, Leaderboard
from harness.reports.ranks import mean_rank_tables
from harness.reports.records import as_data, record
from harness.reports.recovery_tables import recovery_tables
from harness.reports.resample import Estimate
from harness.reports.results import numeric, solved_of, total_of, unit_of
from harness.reports.rows import columns_of, rows
from harness.reports.screens.side_by_side import LEGEND, side_by_side
from harness.reports.text import (
    Format,
    csv_text,
    grid,
    hypertext,
    latex,
    markdown,
    plus_minus,
    wrapped,
)
from harness.runs.store.record import StoredCell
from harness.spec.types import CHOICES, Evaluation

WIDE = Layout(wide=True, width=None)
"""All columns: what published tables have."""


DEFAULTS = {one.name: one.default for one in fields(Evaluation)}
"""Of choices that a task had to make there is none, so that they are always shown."""

SOLVED = 0.9  # below this accuracy on test a caption says that the task is unsolved


def render(board: Leaderboard, form: Format, layout: Layout = WIDE) -> str:
    """The whole leaderboard in one format, ending with a newline.

    `layout` is that of formats for people; CSV and JSON have all columns.
    """
    if form == "json":
        return json.dumps(as_data(board), allow_nan=False, indent=1) + "\n"
    if form == "csv":
        records = [record(b, line) for b in board.boards for line in b.lines]
        headers = dict.fromkeys(name for one in records for name in one)
        return csv_text(list(headers) or ["task", "model", "method"], records)
    if form == "html":
        return _html_page(board, layout)
    return _document(board, form, layout)


def render_rows(cells: Iterable[StoredCell], form: Format) -> str:
    """The tidy rows in one format, ending with a newline."""
    cells = list(cells)
    records, names = rows(cells), list(columns_of(cells))
    if form == "json":
        return json.dumps(records, allow_nan=False, indent=1) + "\n"
    if form == "csv":
        return csv_text(names, records)
    lines = [[_field(record[name]) for name in names] for record in records]
    return grid(names, lines, form) + "\n"


def _field(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------- for people
def _document(board: Leaderboard, form: Format, layout: Layout) -> str:
    escape: Callable[[str], str] = latex if form == "latex" else markdown
    head, sub = (r"\subsection*{%s}", r"%s\\") if form == "latex" else ("### %s", "%s")
    width = None if layout.wide or form == "latex" else layout.width

    def paragraph(text: str) -> str:
        return wrapped(escape(text), width)

    parts = []
    for one in board.boards:
        parts.append(head % escape(board_title(one, board)))
        parts.append("\n".join(sub % paragraph(text) for text in caption(one)))
        table, remarks = _grid(one, form, layout)
        parts += [table, *map(paragraph, remarks)]
    for title, text in _overviews(board, form, layout):
        parts += [head % escape(title), text]
    parts.append(paragraph(legend(board, layout) if board.boards else "No results yet."))
    return "\n\n".join(parts) + "\n"


def _html_page(board: Leaderboard, layout: Layout) -> str:
    parts = [
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Leaderboard</title>'
    ]
    for one in hypertext_tables(board, layout):
        parts.append(f"<h2>{hypertext(one.title)}</h2>")
        parts += [f"<p>{hypertext(text)}</p>" for text in one.caption]
        parts += [one.table, *(f"<p>{hypertext(text)}</p>" for text in one.remarks)]
    parts.append(f"<p>{hypertext(legend(board, layout))}</p>\n</html>")
    return "\n".join(parts) + "\n"


@dataclass(frozen=True)
class HypertextTable:
    """A table as HTML with its title, and what is said above and below it, as plain texts."""

    title: str
    table: str
    caption: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def hypertext_tables(board: Leaderboard, layout: Layout) -> Iterator[HypertextTable]:
    """The table of each task, then those over all tasks."""
    for one in board.boards:
        table, remarks = _grid(one, "html", layout)
        yield HypertextTable(board_title(one, board), table, tuple(caption(one)), tuple(remarks))
    for title, table in _overviews(board, "html", layout):
        yield HypertextTable(title, table)


def legend(board: Leaderboard, layout: Layout) -> str:
    """What the signs and headings of these tables mean, and how to see more columns."""
    if layout.wide:
        return (
            f"{signs(board, layout)}. CSV and JSON have more columns: CPR log, seconds, peak MiB."
        )
    return f"{signs(board, layout)}. More columns: --wide, or --columns with names."


def signs(board: Leaderboard, layout: Layout) -> str:
    """What the signs and headings of these tables mean."""
    columns = {c.name for one in board.boards for c in columns_for(one, layout)[0]}
    lines = [line for one in board.boards for line in one.lines]
    explained = {
        "": "± is half the width of the 95 % bootstrap interval over examples (and seeds, where "
        "there are several)",
        "rank": "≈ marks methods whose CMD intervals overlap that of the best of their group",
        "faithfulness": "f is faithfulness",
        "size_at": "f≥x is the size of the smallest circuit that reaches it (– if none does; ≤ if "
        "it is only the smallest measured one, where a method has no single ranking)",
        "at": "@ is the share of elements asked for"
        + (", or their number" if any(one.at.isdecimal() for one in board.boards) else ""),
        "bits": "bits are those of a message that names the circuit of that size",
        "reached": "reached counts the seeds whose circuit meets the target, also on the test "
        "pairs if it was cut on others",
        "times_own": "× own size says how many times the size of the task's own circuits (weights, "
        "else elements) those of a control search have, over the seeds in which both reach the "
        "target",
        "cost": "cost is in plain forward+backward passes of the same model, by processor time",
        "wall": "wall is the same by wall time",
        "busy": f"{BUSY_MARK} marks costs for which wall time says something else by a factor of "
        f"{BUSY:g} or more, as on a busy machine",
    }
    shown = {"", *columns, *({"size_at"} if any("size_at" in name for name in columns) else ())}
    shown |= {"at"} if shown & {"faithfulness", "kl", "accuracy", "size"} else set()
    shown |= {"busy"} if "cost" in shown and any(line.busy for line in lines) else set()
    text = "; ".join(words for name, words in explained.items() if name in shown)
    return f"{text}; {LEGEND}" if side_by_side(board.boards) else text


def _overviews(board: Leaderboard, form: Format, layout: Layout) -> list[tuple[str, str]]:
    """Title and text of the tables over all tasks."""
    overviews = [
        (table.title, grid(table.headers, table.lines, form))
        for table in recovery_tables(board.boards)
    ]
    for table in side_by_side(board.boards):
        narrow = table.within(None if layout.wide or form != "github" else layout.width)
        text = grid(narrow.headers, narrow.lines, form, narrow.left, tight=not layout.wide)
        overviews.append((narrow.title, text))
    for title, headers, lines in mean_rank_tables(board.mean_ranks):
        overviews.append((title, grid(headers, lines, form)))
    return overviews


def _grid(board: Board, form: Format, layout: Layout) -> tuple[str, list[str]]:
    """The table, and what has to be said of this one below it."""
    columns, left_out = columns_for(board, layout if form == "github" else layout.unbounded)
    left = [index for index, column in enumerate(columns) if column.left]
    lines = [[column.text(line) for column in columns] for line in board.lines]
    headings = [column.heading for column in columns]
    text = grid(headings, lines, form, left=left, tight=not layout.wide)
    remarks = []
    if left_out:
        remarks.append(f"Left out to fit {layout.width} columns: {', '.join(left_out)}.")
    if not layout.wide:
        remarks += [f"{x.method}: {', '.join(x.notes)}." for x in board.lines if x.notes]
    return text, remarks


def board_title(board: Board, all_boards: Leaderboard) -> str:
    """Task, model, variant and, where they would be two of one name, the version of a table."""
    smoke = "" if board.limit is None else f" (smoke run, limit {board.limit}: not ranked)"
    name = board.task if board.model == board.task else f"{board.task} on {board.model}"
    name += f", {board.variant}" if board.variant else ""
    same = [other for other in all_boards.boards if _place(other) == _place(board)]
    # Two boards of one task and model differ in version, runtime or data.
    version = f" ({board.facts['model_id'][:12]})" if len(same) > 1 and board.facts else ""
    return f"{name}{version}{smoke}"


def _place(board: Board) -> tuple[str, str, str, int | None]:
    return board.task, board.variant, board.model, board.limit


def caption(board: Board) -> list[str]:
    """What the numbers of a table mean: the six choices, metric, n, and how good the model is."""
    facts = board.facts
    if facts is None:
        return ["No cell of this task has a result."]
    # The task knows what its answers are; an accuracy of numbers is no lack of the model.
    numbers = numeric(facts)
    quality = (
        "the answers are numbers, so accuracies mean nothing"
        if numbers
        else f"accuracy of the model: {_quality(facts) or 'not measured'}"
    )
    unsolved = ["The model does not solve this task: its circuits mean little."]
    return [
        f"n = {facts['n_examples']} test pairs, {total_of(facts)} {unit_of(facts)}"
        f"{_seeds(board)}, metric {facts['metric']}; {quality}.",
        f"Circuits: {_choices(facts)}.",
        *(unsolved if not numbers and (solved_of(facts) or 0.0) < SOLVED else []),
        *board.remarks,
        *_cost_remark(board),
    ]


def _seeds(board: Board) -> str:
    """Their number, where it is that of all methods."""
    numbers = {line.seeds_all for line in board.lines if line.kind == "method"}
    return (
        f", {count} seed{'s' * (count > 1)}"
        if len(numbers) == 1 and (count := numbers.pop())
        else ""
    )


def _choices(facts: Mapping[str, Any]) -> str:
    """The choices that a task had to make, and others that are not the default."""
    chosen = {name: facts["choices"].get(name, DEFAULTS[name]) for name in CHOICES}
    return ", ".join(f"{name} {x}" for name, x in chosen.items() if x != DEFAULTS[name])


def _cost_remark(board: Board) -> list[str]:
    """Where some costs are of processor time and others, stored earlier, of wall time."""
    timed = [line for line in board.lines if line.cost_fb is not None]
    wall = [line.method for line in timed if line.cost_fb_wall is None]
    if not wall or len(wall) == len(timed):
        return []
    return [f"Cost of {', '.join(wall)} is wall time: it was stored before processor time was."]


def _quality(facts: Mapping[str, Any]) -> str:
    """The model's accuracy on every split that it was not trained on."""
    return ", ".join(
        f"{split} {plus_minus(e['value'], _half(e))}"
        for split, measured in sorted(facts["model_quality"].items())
        if (e := measured.get("accuracy")) is not None
    )


def _half(estimate: Mapping[str, Any]) -> float | None:
    return Estimate(estimate["value"], estimate["low"], estimate["high"]).half_width
