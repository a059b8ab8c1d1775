"""`harness report`: one self-contained page of stored runs."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import options


@click.command("report")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write, as report.html.",
)
@options.size
@options.results()
@options.include
def command(
    runs: tuple[str, ...], output: Path, size: float, results: Path, include: tuple[Path, ...]
) -> int:
    """Write a page with the leaderboard, curves, circuits and provenance of RUN.

    Without RUN, of all runs. The page needs no network, and no script to be read. Damaged cells are
    marked and left out of all numbers; exit 3 if there are any.
    """
    from harness.cli.choose import log, note_faults, read_runs, run_folders
    from harness.disk import replace_file
    from harness.reports.page.document import page
    from harness.spec.load import Library

    cells, faults = read_runs(run_folders(runs, results))
    tags = Library(include).tags({cell.entry.task for cell in cells})
    replace_file(output, page(cells, size, tags=tags).encode())
    log(f"wrote {output}")
    return note_faults(faults)
