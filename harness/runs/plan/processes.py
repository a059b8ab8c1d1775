"""Processes that share the prompts of a run: a launcher starts them, and there are as many."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.runs.plan.cells import Cell
    from harness.spec.types import Runtime


def require_processes(cells: Iterable[Cell], processes: int) -> None:
    """Refuse to compute cells of another number of processes than there are (`HarnessError`)."""
    for cell in cells:
        if (wanted := cell.runtime.processes) != processes:
            by = "one process" if wanted == 1 else f"{wanted} processes that share its prompts"
            there = "this is one" if processes == 1 else f"there are {processes}"
            raise HarnessError(f"{cell.title()} is for {by}, and {there}: {started(wanted)}")


def refuse_other_number(asked: int | None, processes: int) -> None:
    """Refuse `--processes` of another number than there are (`HarnessError`)."""
    if asked not in (None, processes):
        raise HarnessError(
            f"--processes {asked} is not what was started, {processes}: {started(asked)}"
        )


def refuse_other_shards(runtime: Runtime) -> None:
    """Refuse shards of weights over some of the processes only (`HarnessError`)."""
    if runtime.shards not in (1, runtime.processes):
        raise HarnessError(
            f"runtime.shards is {runtime.shards} and runtime.processes {runtime.processes}: "
            f"weights lie over all processes or are whole in each; {started(runtime.shards)}"
        )


def started(processes: int) -> str:
    """How a run of so many processes is started, in the words of an error."""
    arguments = [one for one in sys.argv[1:] if not one.startswith("--processes=")]
    if "--processes" in arguments:
        at = arguments.index("--processes")
        del arguments[at : at + 2]
    is_run = Path(sys.argv[0]).stem in ("harness", "__main__") and arguments[:1] == ["run"]
    words = " ".join(map(quote, arguments)) if is_run else "run SUITE"
    launcher = "" if processes == 1 else f"torchrun --nproc-per-node {processes} "
    program = "harness" if processes == 1 else "-m harness"
    return f"start it with `{launcher}{program} {words}`"
