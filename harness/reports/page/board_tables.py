"""Leaderboards as tables of a page: every column, those that are not usual folded away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.reports.columns import NAMES, OF_TARGETS, USUAL, Column, Layout, columns_for
from harness.reports.leaderboard import Board, Line
from harness.reports.records import record
from harness.reports.results import has_targets

EVERY = Layout(columns=NAMES, wide=True, width=None)
SORTED_BY = {
    "method": "method",
    "size_at": "size_at_0.95",
    "cost": "cost_fb",
    "wall": "cost_fb_wall",
    "seeds": "seeds_done",
}
"""Fields of records that columns of another name are sorted by."""


@dataclass(frozen=True)
class Field:
    """A table's field: what it shows, and the number or word that it is sorted by."""

    text: str
    value: str
    folded: bool
    left: bool


@dataclass(frozen=True)
class TableRow:
    """A line of a leaderboard."""

    kind: str
    method: str
    complete: bool
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class BoardTable:
    """Headings with whether they are folded, and the lines of a board."""

    headings: tuple[tuple[str, bool, bool], ...]
    rows: tuple[TableRow, ...]


def board_table(board: Board) -> BoardTable:
    """All columns that hold anything, with the texts of `harness table --wide`."""
    usual = OF_TARGETS if board.facts is not None and has_targets(board.facts) else USUAL
    columns = [
        column
        for column in columns_for(board, EVERY)[0]
        if any(column.text(line) for line in board.lines)
    ]
    shown = {column.name: column.name in usual for column in columns}
    return BoardTable(
        tuple((column.heading, not shown[column.name], column.left) for column in columns),
        tuple(_row(board, line, columns, shown) for line in board.lines),
    )


def _row(board: Board, line: Line, columns: list[Column], shown: Mapping[str, bool]) -> TableRow:
    values = record(board, line)
    fields = tuple(
        Field(
            column.text(line),
            _value(values, column),
            not shown[column.name],
            column.left,
        )
        for column in columns
    )
    return TableRow(line.kind, line.method, line.complete, fields)


def _value(values: Mapping[str, Any], column: Column) -> str:
    """Every digit of the number that a field rounds; empty where there is none."""
    value = values.get(SORTED_BY.get(column.name, column.name))
    return "" if value is None else value if isinstance(value, str) else repr(value)
