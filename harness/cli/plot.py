"""`harness plot`: a measure against circuit size, as a figure."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import options


@click.command("plot")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write: .svg, .png or .pdf.",
)
@click.option(
    "--measure",
    default="faithfulness",
    show_default=True,
    help="What is drawn: kl, accuracy, metric, or a measure that the tasks chose.",
)
@options.results()
def command(runs: tuple[str, ...], output: Path, measure: str, results: Path) -> int:
    """Draw a measure against circuit size for every task of RUN, one panel per task.

    Panels say how many damaged cells are left out; exit 3 if there are any.
    """
    from harness.cli.choose import note_faults, read_runs, run_folders
    from harness.reports.curves import plot

    cells, faults = read_runs(run_folders(runs, results))
    if faults and not any(cell.result for cell in cells):
        return note_faults(faults)
    plot(cells, output, measure)
    click.echo(f"wrote {output}", err=True)
    return note_faults(faults)
