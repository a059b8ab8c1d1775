"""`harness plot`: figures for papers."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import options

KINDS = ("curves", "pareto", "circuit", "frontier")


@click.command("plot")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("names", nargs=-1, required=True, metavar="RUN... | CIRCUIT [OTHER]")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write: .svg, .png or .pdf.  [default: KIND and --format]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["svg", "png", "pdf"]),
    default="svg",
    show_default=True,
    help="Kind of file, where --output does not say it.",
)
@click.option(
    "--measure",
    default="faithfulness",
    show_default=True,
    help="What curves show: kl, accuracy, metric, or a measure that the tasks chose.",
)
@options.circuit_size
@options.results()
def command(
    kind: str,
    names: tuple[str, ...],
    output: Path | None,
    form: str,
    measure: str,
    size: float | None,
    results: Path,
) -> int:
    """Draw a figure of RUNs, or of one CIRCUIT or two.

    curves: a measure against circuit size, a panel for each task. pareto: faithfulness at --size
    against cost. frontier: sizes of the smallest circuits of RUN's models that reach a loss.
    circuit: a circuit, or two and their difference. Panels of curves say how many damaged cells
    are left out; exit 3 if there are any.
    """
    from harness.cli.choose import log

    path = output or Path(f"{kind}.{form}")
    code = _circuit(names, path, size, results) if kind == "circuit" else 0
    if kind != "circuit":
        code = _runs(kind, names, path, measure, size, results)
    log(f"wrote {path}")
    return code


def _circuit(names: tuple[str, ...], path: Path, size: float | None, results: Path) -> int:
    from harness.circuits.drawing.draw import scene_of
    from harness.reports.figures.painted import save_scene
    from harness.runs.services.lookup import find_circuit

    if len(names) > 2:
        raise click.UsageError("one circuit is drawn, or two and their difference")
    circuits = [find_circuit(results, one, size).circuit for one in names]
    save_scene(scene_of(circuits[0], circuits[1] if len(circuits) > 1 else None), path)
    return 0


def _runs(
    kind: str, names: tuple[str, ...], path: Path, measure: str, size: float | None, results: Path
) -> int:
    from harness.cli.choose import note_faults, read_runs, run_folders
    from harness.reports.curves import plot
    from harness.reports.figures.frontier import plot_frontier
    from harness.reports.figures.pareto import plot_pareto
    from harness.reports.leaderboard import DEFAULT_SIZE
    from harness.runs.store.record import model_store

    folders = run_folders(names, results)
    cells, faults = read_runs(folders)
    if kind == "pareto":
        plot_pareto(cells, path, DEFAULT_SIZE if size is None else size)
    elif kind == "frontier":
        plot_frontier(cells, model_store(folders[0].parent), path)
    else:
        plot(cells, path, measure)
    return note_faults(faults)
