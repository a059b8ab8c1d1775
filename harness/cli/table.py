"""`harness table`: the leaderboard, or the result rows, of stored runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import click

from harness.cli import options
from harness.cli.say import say

Chosen = Literal["github", "latex", "csv", "json", "html", "parquet"]


@click.command("table")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@options.results("-o")
@click.option(
    "--format",
    "form",
    type=click.Choice(["github", "latex", "csv", "json", "html", "parquet"]),
    default="github",
    show_default=True,
    help="parquet only with --full and --write.",
)
@click.option("--full", is_flag=True, help="Result rows: one per cell and circuit size.")
@click.option(
    "--by-task",
    is_flag=True,
    help="One table with a row per task: whether the model solves it, and its smallest circuit.",
)
@click.option(
    "--write",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, atomically, in place of stdout.",
)
@click.option(
    "--provenance",
    is_flag=True,
    help="Add where and when the cells were computed (github tables).",
)
@options.size
@options.layout
def command(
    runs: tuple[str, ...],
    results: Path,
    form: Chosen,
    full: bool,
    by_task: bool,
    write: Path | None,
    size: float,
    provenance: bool,
    columns: str | None,
    wide: bool,
) -> int:
    """Print the leaderboard of RUN (a folder, or a name in the results folder).

    Without RUN, of all runs there. Where several machines computed them, a table below says which
    made what. Damaged cells are marked and left out of all numbers; exit 3
    if there are any.
    """
    from harness.cli.choose import note_faults, read_runs, run_folders

    if form == "parquet" and not (full and write):
        raise click.UsageError("parquet is binary and holds rows: give --full and --write FILE")
    if provenance and (full or form != "github"):
        raise click.UsageError("--provenance is a line below a table: github only, without --full")
    if (columns or wide) and (full or form in ("csv", "json")):
        raise click.UsageError("--columns and --wide are for leaderboards: CSV and JSON have all")
    if by_task and (full or columns or wide or form in ("csv", "json")):
        raise click.UsageError("--by-task is one short table for people: leave other forms out")
    layout = options.layout_of(columns, wide, bounded=write is None)
    folders = run_folders(runs, results)
    cells, faults = read_runs(folders)
    if form == "parquet":
        from harness.reports.rows import write_parquet

        write_parquet(cells, cast(Path, write))
        return note_faults(faults)
    from harness.reports.leaderboard import leaderboard
    from harness.reports.table import render, render_rows

    if by_task:
        from harness.reports.screens.tasks import tasks_table

        text = tasks_table(leaderboard(cells, size), form)
    else:
        text = render_rows(cells, form) if full else render(leaderboard(cells, size), form, layout)
    if form == "github" and not (full or by_task):
        from harness.reports.provenance import machines

        text += machines(cells)
    if provenance:
        from harness.reports.provenance import provenance_line
        from harness.reports.text import markdown

        text += provenance_line(cells, markdown)
    if write is None:
        say(text, nl=False)
    else:
        from harness.disk import replace_file

        replace_file(write, text.encode())
    return note_faults(faults)
