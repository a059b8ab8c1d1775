"""Options that several verbs share, each defined once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

FOLDER = click.Path(file_okay=False, path_type=Path)


def width() -> int:
    """Columns of the terminal, or of COLUMNS; 100 where there is neither."""
    return shutil.get_terminal_size((100, 24)).columns


def results(*short: str) -> Callable[[F], F]:
    """`--results` (and a short form): where runs are kept."""
    return click.option(
        *short,
        "--results",
        type=FOLDER,
        default=Path("results"),
        show_default=True,
        help="Folder that holds the runs and the models they share.",
    )


def include(function: F) -> F:
    """`--include`: more places to look for specs."""
    return click.option(
        "--include",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        multiple=True,
        help="Look for specs in this folder first (may be given several times).",
    )(function)


def as_json(function: F) -> F:
    """`--json`: data for a machine."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(function)


def size(function: F) -> F:
    """`--size`: the circuit size at which faithfulness is given."""
    return click.option(
        "--size",
        type=click.FloatRange(0, 1, min_open=True),
        default=0.1,
        show_default=True,
        help="Share of the edges at which faithfulness, KL and accuracy are given.",
    )(function)


def circuit_size(function: F) -> F:
    """`--size`: which of a cell's circuits."""
    return click.option(
        "--size",
        type=click.FloatRange(0, 1, min_open=True),
        help="Of cells the circuit measured at this share of the edges, not the stored one.",
    )(function)


def grid(function: F) -> F:
    """Options that change which cells a suite has."""
    for option in reversed(
        (
            click.option("--methods", help="Only these methods, as a,b,c."),
            click.option("--seeds", help="These seeds in place of the suite's, as 0,1,2."),
            click.option(
                "--limit",
                type=click.IntRange(min=1),
                help="Smoke run: at most this many pairs. Its numbers are never ranked.",
            ),
            click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Compute there."),
            click.option("--threads", type=click.IntRange(min=1), help="Threads per process."),
        )
    ):
        function = option(function)
    return function
