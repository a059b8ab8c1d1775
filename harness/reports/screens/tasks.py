"""All tasks of a run in one table: whether the model solves each, and what its circuits take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.metrics import MEASURES
from harness.reports.leaderboard import Board, Leaderboard, Line
from harness.reports.resample import Estimate
from harness.reports.results import solved_of, unit_of
from harness.reports.text import Format, grid, number, plus_minus

SOLVED = 0.95
"""Least accuracy, on test pairs, of a model that solves a task (`solved_of`)."""

_UNSOLVED = "unsolved"
_LOSS = "task_loss"


@dataclass(frozen=True)
class _Row:
    """A method's circuits of one task on one model; no line where the task has no result."""

    board: Board
    line: Line | None


def tasks_table(board: Leaderboard, form: Format) -> str:
    """One row for each task, model and competing method, ending with a newline.

    Tasks that the model does not solve are among them, and marked, as are those without a result.
    """
    rows = [_Row(one, line) for one in board.boards for line in _competing(one)]
    if not rows:
        return "No results yet.\n"
    columns = _columns(rows)
    headers = [heading for heading, _ in columns]
    lines = [[text(row) for _, text in columns] for row in rows]
    words = [index for index, heading in enumerate(headers) if heading in _WORDS]
    return f"{grid(headers, lines, form, left=words, tight=True)}\n\n{_legend(rows, headers)}\n"


_WORDS = ("task", "model", "method", "variant")

_Text = Callable[[_Row], str]


def _competing(board: Board) -> Sequence[Line | None]:
    return [line for line in board.lines if line.kind == "method"] or [None]


def _columns(rows: Sequence[_Row]) -> list[tuple[str, _Text]]:
    every: list[tuple[str, _Text]] = [
        ("task", lambda row: row.board.task),
        ("model", _model),
        ("variant", lambda row: row.board.variant),
        ("method", lambda row: "" if row.line is None else row.line.method),
    ]
    # What is the same in all rows stands in the legend, but for the task.
    names = [one for one in every if one[0] == "task" or len({one[1](row) for row in rows}) > 1]
    facts = [row.board.facts for row in rows if row.board.facts is not None]
    units = {unit_of(one) for one in facts}
    unit = units.pop() if len(units) == 1 else "size"
    measures = dict.fromkeys(name for row in rows for name in row.board.chosen)
    measures = {_LOSS: None} if _LOSS in measures else measures  # the others are of the same choice
    controls = dict.fromkeys(
        line.method for row in rows for line in row.board.lines if line.kind == "control"
    )
    columns: list[tuple[str, _Text]] = [
        *names,
        ("model's accuracy", _accuracy),
        (f"{unit}{_at(rows)}", lambda row: _size(row, row.line)),
    ]
    if any(row.line is not None and row.line.weights is not None for row in rows):
        columns.append(("weights", lambda row: number(_of(row).weights, 0)))
    columns += [
        ("bits", lambda row: number(_of(row).bits, 1)),
        *((MEASURES[name].heading(), _chosen(name)) for name in measures),
        ("f ↑", lambda row: _estimate(_of(row).faithfulness)),
        (MEASURES["kl"].heading(), lambda row: _estimate(_of(row).kl)),
        *((f"{name} (control)", _control(name)) for name in controls),
        ("seeds", _seeds),
    ]
    return columns


def _model(row: _Row) -> str:
    """Its name, where it is not the task's own."""
    return "" if row.board.model == row.board.task else row.board.model


def _of(row: _Row) -> Line:
    return row.line or Line("method", "")


def _at(rows: Sequence[_Row]) -> str:
    labels = {row.board.at for row in rows if row.board.at}
    return f" @{labels.pop()}" if len(labels) == 1 else ""


def _accuracy(row: _Row) -> str:
    facts = row.board.facts
    if facts is None:
        return "no result"
    value = solved_of(facts)
    if value is None:
        return "–"
    return f"{value:.3f}" if value >= SOLVED else f"{value:.3f} {_UNSOLVED}"


def _size(row: _Row, line: Line | None) -> str:
    if line is None or not line.seeds_done:
        return ""
    return "–" if line.size is None else str(line.size)


def _chosen(name: str) -> _Text:
    return lambda row: _estimate(_of(row).chosen.get(name))


def _control(name: str) -> _Text:
    def text(row: _Row) -> str:
        same = (line for line in row.board.lines if line.kind == "control" and line.method == name)
        return _size(row, next(same, None))

    return text


def _seeds(row: _Row) -> str:
    line = row.line
    if line is None:
        return ""
    notes = f" ({', '.join(line.notes)})" if line.notes else ""
    return f"{line.seeds_done}/{line.seeds_all}{notes}"


def _estimate(value: Estimate | None) -> str:
    return "" if value is None else plus_minus(value.value, value.half_width, compact=True)


def _legend(rows: Sequence[_Row], headers: Sequence[str]) -> str:
    """How many tasks are solved, and what marks and columns mean."""
    first = rows[0]
    measured = {
        (row.board.task, row.board.model): solved_of(row.board.facts)
        for row in rows
        if row.board.facts is not None
    }
    judged = [value for value in measured.values() if value is not None]
    solved = sum(value >= SOLVED for value in judged)
    same = [
        f"{name} {text}"
        for name, text in (("model", _model(first)), ("method", _of(first).method))
        if name not in headers and text
    ]
    parts = [*same, f"accuracy ≥ {SOLVED:g} on {solved} of {len(judged)} tasks"]
    parts += [
        f"{_UNSOLVED} marks the others, whose circuits mean little",
        "– is a target that no circuit reached",
        "the sizes of controls are those that they need for the same",
    ]
    return "; ".join(parts) + "."
