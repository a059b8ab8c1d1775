"""The one door through which commands print, to stdout or stderr.

Names and texts come from specs, data and results of other people. Here nothing that could drive
a terminal, or turn the direction of writing, gets out, whoever forgot to escape it.
"""

from __future__ import annotations

import click

from harness.launcher import speaks
from harness.spec.printable import printable_lines


def say(text: object = "", *, err: bool = False, nl: bool = True, from_any: bool = False) -> None:
    """Print a text of one line or several; `err`: to stderr; `nl`: end it with a newline.

    Of several processes that share prompts only the first prints, but for what is said `from_any`.
    """
    if from_any or speaks():
        click.echo(printable_lines(str(text)), err=err, nl=nl)
