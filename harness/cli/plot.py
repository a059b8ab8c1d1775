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
def command(runs: tuple[str, ...], output: Path, measure: str, results: Path) -> None:
    """Draw a measure against circuit size for every task of RUN, one panel per task."""
    from harness.cli.choose import run_folders
    from harness.reports.curves import plot
    from harness.runs.store.record import load_cells

    plot(
        [cell for folder in run_folders(runs, results) for cell in load_cells(folder)],
        output,
        measure,
    )
    click.echo(f"wrote {output}", err=True)
