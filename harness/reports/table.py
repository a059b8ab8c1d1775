"""The leaderboard and the result rows as text: Markdown, LaTeX, HTML, CSV, JSON.

The text formats round for people. CSV and JSON keep every digit and the interval's ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from harness.datasets.kinds import data_kind, numeric_answers
from harness.metrics import MEASURES
from harness.reports.ground_truth import COLUMNS, Recovery
from harness.reports.leaderboard import LEVELS, Board, Leaderboard, Line
from harness.reports.records import as_data, record
from harness.reports.recovery_tables import recovery_tables
from harness.reports.resample import Estimate
from harness.reports.results import total_of, unit_of
from harness.reports.rows import columns_of, rows
from harness.reports.text import (
    Format,
    csv_text,
    grid,
    hypertext,
    latex,
    markdown,
    number,
    plus_minus,
)
from harness.runs.store.record import StoredCell
from harness.spec.build import build_data
from harness.spec.types import CHOICES

LEGEND = (
    "± is half the width of the 95 % bootstrap interval over examples (and seeds, where there "
    "are several); ≈ marks methods whose CMD intervals overlap that of the best of their group; "
    "f is faithfulness; f≥x is the size of the smallest circuit that reaches it (– if none does; "
    "≤ if it is only the smallest measured one, where a method has no single ranking); @ is the "
    "share of elements asked for; bits are those of a message that names "
    "the circuit of that size; cost is in plain forward+backward passes of "
    "the same model. CSV and JSON have more columns: CPR log, seconds, peak MiB."
)
SHOWN_AREAS = ("cmd", "cpr", "cmd_log")  # tables for people; CSV and JSON have all
SOLVED = 0.9  # below this accuracy on test a caption says that the task is unsolved


def render(board: Leaderboard, form: Format) -> str:
    """The whole leaderboard in one format, ending with a newline."""
    if form == "json":
        return json.dumps(as_data(board), allow_nan=False, indent=1) + "\n"
    if form == "csv":
        records = [record(b, line) for b in board.boards for line in b.lines]
        headers = dict.fromkeys(name for one in records for name in one)
        return csv_text(list(headers) or ["task", "model", "method"], records)
    if form == "html":
        return _html_page(board)
    return _document(board, form)


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
def _document(board: Leaderboard, form: Format) -> str:
    escape: Callable[[str], str] = latex if form == "latex" else markdown
    head, sub = (r"\subsection*{%s}", r"%s\\") if form == "latex" else ("### %s", "%s")
    parts = []
    for one in board.boards:
        parts.append(head % escape(_title(one, board)))
        parts.append("\n".join(sub % escape(text) for text in caption(one)))
        parts.append(_grid(one, form))
    for title, text in _overviews(board, form):
        parts += [head % escape(title), text]
    parts.append(escape(LEGEND) if board.boards else escape("No results yet."))
    return "\n\n".join(parts) + "\n"


def _html_page(board: Leaderboard) -> str:
    parts = [
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>Leaderboard</title>'
    ]
    for one in board.boards:
        parts.append(f"<h2>{hypertext(_title(one, board))}</h2>")
        parts += [f"<p>{hypertext(text)}</p>" for text in caption(one)]
        parts.append(_grid(one, "html"))
    for title, text in _overviews(board, "html"):
        parts += [f"<h2>{hypertext(title)}</h2>", text]
    parts.append(f"<p>{hypertext(LEGEND)}</p>\n</html>")
    return "\n".join(parts) + "\n"


def _overviews(board: Leaderboard, form: Format) -> list[tuple[str, str]]:
    """Title and text of the tables over all tasks."""
    overviews = [
        (table.title, grid(table.headers, table.lines, form))
        for table in recovery_tables(board.boards)
    ]
    if ranks := _mean_rank_lines(board):
        overviews.append(("Mean rank", grid(["method", "mean rank ↓", "tasks"], ranks, form)))
    return overviews


def _grid(board: Board, form: Format) -> str:
    headers = headers_of(board)
    left = [index for index, name in enumerate(headers) if name in ("#", "method", "seeds")]
    with_truth = _has_ground_truth(board)
    lines = [_cells(line, board.chosen, with_truth) for line in board.lines]
    return grid(headers, lines, form, left=left)


def _title(board: Board, all_boards: Leaderboard) -> str:
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
    numbers = _has_numbers(facts["identity"]["task"]["data"])
    quality = (
        "the answers are numbers, so accuracies mean nothing"
        if numbers
        else f"accuracy of the model: {_quality(facts) or 'not measured'}"
    )
    recorded = facts["choices"]
    choices = ", ".join(f"{name} {recorded[name]}" for name in CHOICES if name in recorded)
    unsolved = ["The model does not solve this task: its circuits mean little."]
    return [
        f"n = {facts['n_examples']} test pairs, {total_of(facts)} {unit_of(facts)}, "
        f"metric {facts['metric']}; {quality}.",
        f"Circuits: {choices}.",
        *(unsolved if not numbers and _accuracy(facts) < SOLVED else []),
    ]


def _has_numbers(data: Mapping[str, Any]) -> bool:
    """Whether the answers of data, as an identity holds it, are numbers."""
    # An identity need not hold all that is needed to build the data of other kinds.
    is_program = data_kind(data["kind"]).program is not None
    return is_program and numeric_answers(build_data(data))


def _quality(facts: Mapping[str, Any]) -> str:
    """The model's accuracy on every split that it was not trained on."""
    return ", ".join(
        f"{split} {plus_minus(e['value'], _half(e))}"
        for split, measured in sorted(facts["model_quality"].items())
        if (e := measured.get("accuracy")) is not None
    )


def _accuracy(facts: Mapping[str, Any]) -> float:
    """The model's accuracy on the split that circuits are measured on."""
    measured = facts["model_quality"]["test"]["accuracy"]["value"]
    return 0.0 if measured is None else float(measured)


def _half(estimate: Mapping[str, Any]) -> float | None:
    return Estimate(estimate["value"], estimate["low"], estimate["high"]).half_width


def headers_of(board: Board) -> list[str]:
    """Column headings; the stated size stands in those that depend on it."""
    at = f" @{board.at}" if board.at else ""
    unit = "edges" if board.facts is None else unit_of(board.facts)
    return [
        "#",
        "method",
        *(MEASURES[name].heading() for name in SHOWN_AREAS),
        f"{unit} f≥{'/'.join(level[1:] for level in LEVELS)} ↓",
        f"{unit}{at}",
        MEASURES["bits"].heading(at),
        f"f{at} ↑",
        *(MEASURES[name].heading(at) for name in ("kl", "accuracy", *board.chosen)),
        *(COLUMNS if _has_ground_truth(board) else ()),
        "cost",
        "seeds",
    ]


def _has_ground_truth(board: Board) -> bool:
    return any(line.recovery is not None for line in board.lines)


def _recovery_fields(recovery: Recovery | None) -> list[str]:
    return [""] * len(COLUMNS) if recovery is None else recovery.fields()


def _cells(line: Line, chosen: Sequence[str], with_truth: bool) -> list[str]:
    name = f"{line.method} (control)" if line.kind == "control" else line.method
    return [
        _rank(line),
        name,
        *(_estimate(None if line.areas is None else line.areas[key]) for key in SHOWN_AREAS),
        _reach(line),
        "" if line.size is None else str(line.size),
        number(line.bits, 1),
        _estimate(line.faithfulness),
        _estimate(line.kl),
        _estimate(line.accuracy),
        *(_estimate(line.chosen.get(name)) for name in chosen),
        *(_recovery_fields(line.recovery) if with_truth else ()),
        number(line.cost_fb, 2),
        _seeds(line),
    ]


def _rank(line: Line) -> str:
    if line.kind != "method":
        return ""
    if line.rank is None:
        return "–"
    return f"{line.rank}≈" if line.tied else str(line.rank)


def _reach(line: Line) -> str:
    if line.reach is None:
        return ""
    sizes = (line.reach[level] for level in LEVELS)
    bound = "≤ " if line.reach_from == "grid" else ""
    return bound + " / ".join("–" if size is None else str(size) for size in sizes)


def _estimate(estimate: Estimate | None) -> str:
    return "" if estimate is None else plus_minus(estimate.value, estimate.half_width)


def _seeds(line: Line) -> str:
    if line.kind in ("whole", "empty"):
        return ""
    notes = f" ({', '.join(line.notes)})" if line.notes else ""
    return f"{line.seeds_done}/{line.seeds_all}{notes}"


def _mean_rank_lines(board: Leaderboard) -> list[list[str]]:
    if board.ranked_tasks < 2:
        return []
    return [
        [method, f"{mean:.2f}", f"{tasks}/{board.ranked_tasks}"]
        for method, mean, tasks in board.mean_ranks
    ]
