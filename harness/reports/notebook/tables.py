"""Leaderboards, comparisons and the measures of a circuit as tables of a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.reports.columns import Layout
from harness.reports.compare import Comparison
from harness.reports.leaderboard import Leaderboard
from harness.reports.notebook.fragment import fragment, heading, paragraph
from harness.reports.screens.comparison import comparison_table, sentences
from harness.reports.table import hypertext_tables, render, signs
from harness.reports.text import grid

USUAL = Layout(width=None)
"""The usual columns, however wide they are."""


TEXT_WIDTH = 100


def leaderboard_text(board: Leaderboard) -> str:
    """The same tables in Markdown, for consoles."""
    return render(board, "github", Layout(width=TEXT_WIDTH)).rstrip("\n")


def leaderboard_html(board: Leaderboard) -> str:
    """Every table with its caption, tables over all tasks, and what the signs mean."""

    def parts() -> Iterator[str]:
        for one in hypertext_tables(board, USUAL):
            yield heading(one.title)
            yield from map(paragraph, one.caption)
            yield one.table
            yield from map(paragraph, one.remarks)
        yield paragraph(f"{signs(board, USUAL)}." if board.boards else "No results yet.", "legend")

    return fragment(parts())


def comparison_html(comparison: Comparison) -> str:
    """The table of differences, and the sentences below it."""
    return fragment([comparison_table(comparison, "html"), *map(paragraph, sentences(comparison))])


def measures_html(texts: Mapping[str, tuple[str, str, str]]) -> str:
    """A row for each measure: its value and, after what separates them, its interval."""
    rows = [[name, value, interval] for name, (value, _, interval) in texts.items()]
    table = grid(["measure", "value", "95 % interval"], rows, "html", left=[0])
    return fragment([table])
