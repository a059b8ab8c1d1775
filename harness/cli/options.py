"""Options that several verbs share, each defined once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from harness.reports.columns import Layout

WIDTH = 100
"""Columns of a pipe or file."""

NARROWEST = 40

F = TypeVar("F", bound=Callable[..., Any])

FOLDER = click.Path(file_okay=False, path_type=Path)

COUNTED = click.IntRange(min=1, max=2**24)
"""Tokens that are counted in float32, which is exact up to there."""

loose = click.option(
    "--loose",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Least F1 of names that are no confirmed labels (~); 1 leaves them out.",
)

train_dictionaries = click.option(
    "--train", is_flag=True, help="Train dictionaries (and a model) not there yet."
)


class Threads(click.IntRange):
    """A positive number, or `auto`."""

    name = "N|auto"

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, or the word."""
        return value if value == "auto" else super().convert(value, param, ctx)


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


def layout(function: F) -> F:
    """`--wide` and `--columns`: what a leaderboard for people shows; see `layout_of`."""
    for option in (
        click.option("--columns", help="Only these columns, as method,cmd,accuracy."),
        click.option("--wide", is_flag=True, help="All columns, however wide they are together."),
    ):
        function = option(function)
    return function


def layout_of(columns: str | None, wide: bool, *, bounded: bool = True) -> Layout:
    """The layout that `layout` asks for; tables fit the window where `bounded`.

    Raises `NotFound` for an unknown column.
    """
    from harness.reports.columns import Layout

    if columns is not None and wide:
        raise click.UsageError("--wide shows all columns: give either it or --columns")
    names = None if columns is None else tuple(name.strip() for name in columns.split(","))
    return Layout(names, wide, window() if bounded else WIDTH)


def window() -> int:
    """Columns of the terminal, or `WIDTH` where stdout is none."""
    if not sys.stdout.isatty():
        return WIDTH
    return max(NARROWEST, shutil.get_terminal_size((WIDTH, 24)).columns)


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
            click.option(
                "--control-searches",
                help="Repeat every search where it should fail, as swapped,nonsense,untrained; or "
                "none.",
            ),
            click.option("--seeds", help="These seeds in place of the suite's, as 0,1,2."),
            click.option(
                "--limit",
                type=click.IntRange(min=1),
                help="Smoke run: at most this many pairs. Its numbers are never ranked.",
            ),
            click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Compute there."),
            click.option(
                "--threads",
                type=Threads(),
                help="Threads per process; `auto`, the default for a task, takes one for a small "
                "model.",
            ),
            click.option(
                "--processes",
                type=click.IntRange(min=1),
                help="Processes that share each batch of prompts; under torchrun as many as it "
                "starts.",
            ),
            click.option(
                "--shards",
                type=click.IntRange(min=1),
                help="Processes over which each layer's weights lie: 1, or as many as there are.",
            ),
        )
    ):
        function = option(function)
    return function
