"""`harness check`: try a method on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli import options
from harness.cli.say import say


@click.command("check")
@click.argument("method")
@options.include
@options.as_json
def command(method: str, include: tuple[Path, ...], as_json: bool) -> int:
    """Try METHOD (a method's spec, by name or path) on a tiny model with random weights.

    First its spec is checked, parameters included. Then it is run on 16 prompt pairs: does it
    return a Discovery with a score for each element, are scores the same twice, does it work
    under other ablations or refuse them, and how near is it to exact patching? Takes seconds;
    exit 1 if anything fails. Of errors in a plug-in the frames of its own code are shown.
    """
    from harness.cli.check import check_methods
    from harness.spec.load import Library

    library = Library(include)
    check_methods((method,), library)
    loaded = library.method(method)
    from harness.runs.services.check_method import Trial

    failed = False
    data = []
    for one in Trial(loaded.spec).outcomes():
        failed |= one.problem is not None
        data.append({"check": one.check, "problem": one.problem, "note": one.note})
        if not as_json:
            say(_line(one.check, one.problem, one.note))
    if as_json:
        say(json.dumps({"method": loaded.spec.name, "checks": data}, indent=1))
    return 1 if failed else 0


def _line(check: str, problem: str | None, note: str) -> str:
    from harness.spec.printable import printable

    text = f"ok      {check}" if problem is None else f"FAILED  {check}: {problem}"
    text += f" ({note})" if note else ""
    return "\n".join(map(printable, text.splitlines()))
