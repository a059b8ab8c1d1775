"""All tasks of a run in one table: whether the model solves each, and what its circuits take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.metrics import MEASURES
from harness.metrics.statistics import geometric_mean
from harness.reports.leaderboard import Board, Leaderboard, Line
from harness.reports.resample import Estimate
from harness.reports.results import solved_of, unit_of
from harness.reports.text import Format, grid, number, plus_minus

SOLVED = 0.95
"""Least accuracy, on test pairs, of a model that solves a task (`solved_of`)."""

MISSED = "missed"
"""Stands beside the sizes of circuits that miss their target on fresh pairs, of any seed."""

_UNSOLVED = "unsolved"
_LOSS = "task_loss"
_SAME_CHOICE = ("p_correct", "choice_accuracy")
"""Left out where the loss of the same choice is shown."""


@dataclass(frozen=True)
class _Row:
    """A method's circuits of one task on one model; no line where the task has no result."""

    board: Board
    line: Line | None


def tasks_table(board: Leaderboard, form: Format) -> str:
    """One row for each task, model and competing method, ending with a newline.

    Tasks that the model does not solve are among them, and marked, as are those without a result.
    Below them are geometric means of the sizes, over the tasks that are solved by a circuit.
    """
    rows = [_Row(one, line) for one in board.boards for line in _competing(one)]
    if not rows:
        return "No results yet.\n"
    columns = _columns(rows)
    headers = [heading for heading, _ in columns]
    lines = [[text(row) for _, text in columns] for row in rows]
    lines += [[mean.get(heading, "") for heading in headers] for mean in _means(rows)]
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
    if _LOSS in measures:
        measures = {name: None for name in measures if name not in _SAME_CHOICE}
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
    if line.size is None:
        return "–"
    return str(line.size) if _holds(line) else f"{line.size} {MISSED}"


def _holds(line: Line) -> bool:
    """Whether the circuits of all seeds reach their target, if they have one, on fresh pairs."""
    return line.held is None or line.held == line.seeds_done


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


# ---------------------------------------------------------------- means over tasks
def _means(rows: Sequence[_Row]) -> list[dict[str, str]]:
    """For each model, variant and method with several tasks: its mean sizes, by heading."""
    groups: dict[tuple[str, str, str], list[_Row]] = {}
    for row in rows:
        if row.line is not None:
            key = (_model(row), row.board.variant, row.line.method)
            groups.setdefault(key, []).append(row)
    means = []
    for (model, variant, method), group in groups.items():
        within = [row for row in group if _counts(row)]
        if len(within) < 2:
            continue
        mean = {"task": f"geometric mean of {len(within)}"}
        mean |= {"model": model, "variant": variant, "method": method}
        units = {unit_of(row.board.facts) for row in within if row.board.facts is not None}
        if len(units) == 1:
            heading = f"{units.pop()}{_at(rows)}"
            mean[heading] = _mean([_of(row).size for row in within])
            mean["weights"] = _mean([_of(row).weights for row in within])
        mean["bits"] = _mean([_of(row).bits for row in within])
        means.append(mean)
    return means


def _counts(row: _Row) -> bool:
    """Whether the model solves the task, as far as that is known, and a circuit does it alone."""
    value = None if row.board.facts is None else solved_of(row.board.facts)
    line = _of(row)
    return (value is None or value >= SOLVED) and bool(line.size) and _holds(line)


def _mean(sizes: Sequence[float | None]) -> str:
    """With the ends of its 95 % interval; empty where a size is lacking or nothing is needed."""
    positive = [size for size in sizes if size]
    if len(positive) < len(sizes):
        return ""
    mean = geometric_mean(positive)
    return f"{mean.value:.0f} ({mean.low:.0f}–{mean.high:.0f})"


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
    lines = [line for row in rows for line in row.board.lines if line.seeds_done]
    missed = any(line.size is not None and not _holds(line) for line in lines)
    parts = [*same, f"accuracy ≥ {SOLVED:g} on {solved} of {len(judged)} tasks"]
    parts += [
        f"{_UNSOLVED} marks the others, whose circuits mean little",
        "– is a target that no circuit reached",
        *([f"{MISSED} marks circuits that do not reach it on fresh pairs"] if missed else []),
        "the sizes of controls are those that they need for the same",
    ]
    return "; ".join(parts) + "."
