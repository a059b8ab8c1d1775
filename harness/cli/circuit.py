"""`harness circuit`: what is in a circuit, and what two differ in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli import options
from harness.cli.say import say

if TYPE_CHECKING:
    from harness.runs.services.lookup import NamedCircuit


@click.command("circuit")
@click.argument("circuits", nargs=-1, required=True, metavar="CIRCUIT [OTHER]")
@click.option(
    "--top", type=click.IntRange(min=1), default=10, show_default=True, help="Edges to list."
)
@options.circuit_size
@click.option(
    "--known",
    "reference",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A circuit file whose edges are marked (default: the true ones of a compiled program).",
)
@click.option(
    "--diff",
    "other",
    metavar="CIRCUIT",
    help="The other circuit: the same as naming two.",
)
@click.option(
    "--draw",
    "picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write an .svg of the circuit, or of the difference of two.",
)
@click.option(
    "--export",
    "graph",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the graph for other tools: .dot, .graphml, or .json as circuit-tracer reads it.",
)
@click.option(
    "--deltas",
    is_flag=True,
    help="In a drawing: by how much the task loss grows without each channel and weight.",
)
@options.results("-o")
@options.include
@options.as_json
def command(
    circuits: tuple[str, ...],
    top: int,
    size: float | None,
    reference: Path | None,
    other: str | None,
    picture: Path | None,
    graph: Path | None,
    deltas: bool,
    results: Path,
    include: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Show CIRCUIT: its strongest edges, its nodes by layer, and which known edges it keeps.

    One of channels is drawn whole: what each reads with which weight, what it writes to, and what
    it carries. With OTHER also what the two differ in. --draw and --export write files. Each is a
    circuit file, the beginning of a cell's id, or RUN:CELL.
    """
    from harness.circuits.files import load_circuit
    from harness.cli.choose import log
    from harness.reports.screens.circuits import circuits_text
    from harness.reports.screens.whiteboard import whiteboard_text
    from harness.runs.services.describe import as_named, describe
    from harness.runs.services.lookup import NamedCircuit, find_circuit
    from harness.runs.services.true_circuit import true_circuit_of
    from harness.runs.store.record import model_store
    from harness.spec.load import Library

    circuits += () if other is None else (other,)
    if len(circuits) > 2:
        raise click.UsageError("one circuit is shown, or two and their difference")
    if graph is not None and len(circuits) > 1:
        raise click.UsageError("--export writes the graph of one circuit")
    named = [find_circuit(results, one, size) for one in circuits]
    marked = None if reference is None else NamedCircuit(load_circuit(reference), str(reference))
    entry = named[0].entry
    if marked is None and entry is not None:
        truth = true_circuit_of(entry, Library(include), model_store(results), log)
        if truth is not None:
            marked = as_named(truth.kept, named[0].circuit, "the true circuit of the program")
    report = describe(named, top, marked)
    _write_files(named, picture, graph, marked)
    board = _whiteboard(named[0], results, include, deltas) if len(named) == 1 else None
    if as_json:
        report |= {} if board is None else {"whiteboard": board}
        say(json.dumps(report, indent=1, allow_nan=False))
        return
    say(circuits_text(report, options.window()))
    if board is not None:
        say(f"\n{whiteboard_text(board, options.window() or 100)}")


def _write_files(
    named: list[NamedCircuit],
    picture: Path | None,
    graph: Path | None,
    marked: NamedCircuit | None,
) -> None:
    """The drawing of one circuit or two, and the graph of one, by the endings of the files.

    In the drawing of one circuit, elements of `marked` are told from others.
    """
    from harness.cli.choose import log
    from harness.disk import write
    from harness.reports.exports.files import drawn, exported

    true = None if marked is None or len(named) > 1 else list(marked.circuit.elements())
    for path, text in (
        (picture, picture and drawn(picture, [one.circuit for one in named], true)),
        (graph, graph and exported(graph, named[0].circuit)),
    ):
        if path is not None:
            write(path, str(text).encode())
            log(f"wrote {path}")


def _whiteboard(
    named: NamedCircuit, results: Path, include: tuple[Path, ...], deltas: bool
) -> dict[str, Any] | None:
    """The drawing of a circuit of channels; None for others, and where there is no model for it."""
    from harness.circuits.gates.whiteboard import can_be_drawn
    from harness.cli.choose import checked_task, default_runtime, log, model_of_circuit
    from harness.errors import HarnessError
    from harness.runs.services.describe import whiteboard_of
    from harness.runs.services.judge import Request, runtime_of
    from harness.runs.store.record import model_store
    from harness.spec.load import Library

    if not can_be_drawn(named.circuit):
        return None
    library = Library(include)
    try:
        task = checked_task(library, named.circuit.source.get("task", ""))
        runtime = runtime_of(named, default_runtime(library))
        request = Request(named, task, model_of_circuit(library, task, named.circuit), runtime)
        return whiteboard_of(request, model_store(results), log, with_deltas=deltas)
    except HarnessError as error:
        log(f"not drawn: {error}")
        return None
