"""What an analysis says, as plain data: sentences, tables, and pictures that others draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Value = str | int | float | None

PictureKind = Literal["heat", "bars", "graph"]
"""How a picture is drawn, and its data:

    heat   `panels`: each with a `title`, `values` (rows of numbers), `rows` and `columns` (names),
           and `signed` (colours for both signs, or for magnitudes)
    bars   `bars`: [name, number] each, `unit`
    graph  `nodes`: each with `name`, `text`, `column`, `row`, `weight`; `edges`: [source, into,
           weight] by number; `columns`, `rows` (names)
"""


@dataclass(frozen=True)
class AnalysisTable:
    """Rows of values under named columns, not rounded. `shares`: columns to show in per cent."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    shares: tuple[str, ...] = ()

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "shares": list(self.shares),
        }


@dataclass(frozen=True)
class Picture:
    """A picture that is yet to be drawn; `name` is that of its file."""

    name: str
    kind: PictureKind
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Analysis:
    """What an analysis says. `notes`: sentences before the tables. `data`: more for `--json`."""

    tables: Sequence[AnalysisTable]
    notes: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    data: Mapping[str, Any] | None = None
