"""The page: what its sections show, gathered from stored cells, and the template that writes it.

Names come from specs and data of other people. Every text is escaped by the template engine and
freed of control characters and direction marks on its way; the page's own script is the only one
that its policy lets run, and nothing can be fetched.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from harness import __version__
from harness.circuits.drawing.layout import MOST
from harness.circuits.drawing.palette import COLOURS
from harness.reports.columns import Layout
from harness.reports.comparable import comparable_groups
from harness.reports.leaderboard import DEFAULT_SIZE, Board, Leaderboard, leaderboard
from harness.reports.page.board_tables import BoardTable, board_table
from harness.reports.page.charts import Chart
from harness.reports.page.circuits.figures import (
    DrawnCircuit,
    DrawnDifference,
    differences,
    drawn_circuit,
)
from harness.reports.page.examples import WorstPairs, examples
from harness.reports.page.measure_curves import bits_chart, size_charts
from harness.reports.page.origins import origins
from harness.reports.page.pareto import pareto_chart
from harness.reports.page.trainings import trainings
from harness.reports.ranks import mean_rank_tables
from harness.reports.recovery_tables import recovery_tables
from harness.reports.screens.side_by_side import side_by_side
from harness.reports.table import board_title, caption, legend, render
from harness.runs.store.record import StoredCell
from harness.spec.printable import printable

DRAWN = 3
"""Circuits that are drawn of each board: of its first methods."""

Methods = dict[tuple[str, str], list[StoredCell]]


@dataclass(frozen=True)
class BoardPart:
    """One board with what is drawn of it; `anchor` is its name in links."""

    anchor: str
    title: str
    board: Board
    caption: list[str]
    table: BoardTable
    charts: list[Chart]
    circuits: list[DrawnCircuit]
    differences: list[DrawnDifference]
    examples: list[WorstPairs]
    granularity: str
    tags: tuple[str, ...]


def page(
    cells: Sequence[StoredCell],
    size: float = DEFAULT_SIZE,
    live: str = "",
    tags: Mapping[str, tuple[str, ...]] | None = None,
) -> str:
    """The whole page of these cells; equal cells give equal text.

    `size`: the share of elements at which tables give faithfulness, KL and accuracy. `live`: the
    mark of the runs' state that the page shows, where a server can be asked for the next. `tags`:
    those of tasks by name, which results do not have.
    """
    board = leaderboard(cells, size)
    methods = [_methods(group) for group in comparable_groups(cells)]
    parts = [
        _part(number, one, board, own, (tags or {}).get(one.task, ()))
        for number, (one, own) in enumerate(zip(board.boards, methods, strict=True), 1)
    ]
    scripts, style = [_own("report.js")], _own("report.css")
    if live:
        scripts.append(_own("live.js"))
    return (
        _environment()
        .from_string(_own("report.html"))
        .render(
            parts=parts,
            shortest=_shortest(parts, methods),
            overviews=_overviews(board),
            legend=legend(board, Layout(wide=True, width=None)),
            downloads=[
                ("leaderboard.csv", "text/csv", _encoded(render(board, "csv"))),
                ("leaderboard.json", "application/json", _encoded(render(board, "json"))),
            ],
            runs=origins(cells),
            trained=trainings(cells),
            states=_states(cells),
            filters={
                "task": _distinct(one.task for one in board.boards),
                "model": _distinct(one.model for one in board.boards),
                "granularity": _distinct(one.granularity for one in parts),
                "tag": _distinct(tag for one in parts for tag in one.tags),
            },
            colours=COLOURS,
            most=MOST,
            version=__version__,
            live=live,
            scripts=[Markup(script) for script in scripts],
            style=Markup(style),
            policy=_policy(scripts),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_harmless,
        loader=FunctionLoader(_own),
    )
    return environment


def _harmless(value: Any) -> Any:
    """Texts as they can be shown; the template engine escapes them after this."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _own(name: str) -> str:
    return files("harness.reports.page").joinpath(name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> Markup:
    """What the page may do: run these scripts, and ask only whoever serves it, if it is served."""
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts]
    rules = {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "script-src": " ".join(f"'sha256-{digest}'" for digest in digests),
        "img-src": "data:",
        **({"connect-src": "'self'"} if len(scripts) > 1 else {}),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return Markup("; ".join(f"{name} {value}" for name, value in rules.items()))


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# ---------------------------------------------------------------- sections
def _part(
    number: int, board: Board, every: Leaderboard, methods: Methods, tags: tuple[str, ...]
) -> BoardPart:
    granularity = "" if board.facts is None else str(board.facts["choices"]["granularity"])
    pareto, first = pareto_chart(board), _first(board, methods)
    circuits = [drawn_circuit(cell) for cell in first]
    return BoardPart(
        anchor=f"board-{number}",
        title=board_title(board, every),
        board=board,
        caption=caption(board),
        table=board_table(board),
        charts=size_charts(board, methods) + ([] if pareto is None else [pareto]),
        circuits=circuits,
        differences=differences(circuits),
        examples=[examples(cell) for cell in first],
        granularity=granularity,
        tags=tags,
    )


def _methods(group: Sequence[StoredCell]) -> Methods:
    """Finished cells by role and method."""
    finished: Methods = {}
    for cell in group:
        if cell.result is not None:
            finished.setdefault((cell.entry.role, cell.entry.method), []).append(cell)
    return finished


def _first(board: Board, methods: Methods) -> list[StoredCell]:
    """Of the first methods of a board, which are its best, the cell of the first seed."""
    cells = [
        methods[line.kind, line.method][0]
        for line in board.lines
        if (line.kind, line.method) in methods and line.kind == "method"
    ]
    return cells[:DRAWN]


def _shortest(parts: Sequence[BoardPart], methods: Sequence[Methods]) -> list[tuple[str, Chart]]:
    """A chart for each task and model, of its boards at all granularities and choices."""
    places: dict[tuple[str, str, int | None], list[tuple[Board, Methods]]] = {}
    for part, own in zip(parts, methods, strict=True):
        one = part.board
        places.setdefault((one.task, one.model, one.limit), []).append((one, own))
    drawn = [
        (task if task == model else f"{task} on {model}", bits_chart(groups))
        for (task, model, _), groups in places.items()
    ]
    return [(title, one) for title, one in drawn if one is not None]


def _overviews(board: Leaderboard) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, headings and lines of the tables over all tasks."""
    tables = [
        (table.title, list(table.headers), [list(line) for line in table.lines])
        for table in recovery_tables(board.boards)
    ]
    tables += [
        (table.title, list(table.headers), [list(line) for line in table.lines])
        for table in (one.within(None) for one in side_by_side(board.boards))
    ]
    return [*tables, *mean_rank_tables(board.mean_ranks)]


def _states(cells: Sequence[StoredCell]) -> list[tuple[str, int]]:
    """How many cells are in each state."""
    states = [cell.status for cell in cells]
    order = ("ok", "smoke", "failed", "missing", "damaged")
    return [(state, states.count(state)) for state in order if state in states]


def _distinct(names: Any) -> list[str]:
    return sorted({name for name in names if name})
