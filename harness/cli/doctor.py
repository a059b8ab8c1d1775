"""`harness doctor`: check that this machine is ready."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from harness.cli import options
from harness.cli.say import say


@click.command("doctor")
@options.results("-o")
@click.option(
    "--nodes",
    type=click.IntRange(min=2),
    metavar="N",
    help="Try locks between N machines: start the same command on all of them at once.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=1),
    default=60,
    show_default=True,
    help="Seconds to wait for the others.",
)
@options.as_json
def command(results: Path, nodes: int | None, wait: float, as_json: bool) -> int:
    """Show versions, devices, threads, and how busy the machine is.

    Two processes contend for a lock in the results folder, to prove that runs keep out of each
    other's way there. Exit 1 if results cannot be written, or locks do nothing.
    """
    facts = {**_machine(), "results": str(results), **_locks(results, nodes, wait)}
    if as_json:
        say(json.dumps(facts, indent=1))
    else:
        from harness.spec.printable import printable

        for name, text in _lines(facts).items():
            say(f"{name:>12}  {printable(text)}")
    return 1 if facts["problem"] else 0


def _lines(facts: dict[str, Any]) -> dict[str, str]:
    versions = facts["versions"].items()
    busy = facts["busy"]
    return {
        **{name: "none" if value is None else str(value) for name, value in facts.items()},
        "versions": ", ".join(f"{name} {one or 'not installed'}" for name, one in versions),
        "git": _git_line(facts["git"]),
        "half": "; ".join(_half_line(name, one) for name, one in facts["half"].items()),
        "busy": busy["warning"] or f"no: others use {busy['others']:.1f} of {busy['cores']} cores",
        "devices": ", ".join(facts["devices"]),
    }


def _half_line(name: str, instructions: Sequence[str] | None) -> str:
    if instructions is None:
        return f"{name}: this torch does not tell"
    return f"{name} {'by ' + ', '.join(instructions) if instructions else 'emulated, slow'}"


def _git_line(git: Mapping[str, Any] | None) -> str:
    if git is None:
        return "none: this package is not in a repository of its own"
    return f"commit {git['commit']}, {'with changes' if git['dirty'] else 'no changes'}"


def _machine() -> dict[str, Any]:
    import torch

    from harness.runs.compute.machine import INSTRUCTIONS, half_arithmetic
    from harness.runs.services.forecasts.busy import Watch
    from harness.runs.store import provenance

    load, threads = Watch().load(0.3), torch.get_num_threads()
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": dict(provenance.versions()),
        "git": provenance.package_git_state(),
        "cpu": provenance.cpu_name(),
        "half": {
            str(dtype).removeprefix("torch."): half_arithmetic(dtype) for dtype in INSTRUCTIONS
        },
        "cores": os.cpu_count(),
        "threads": threads,
        "wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "busy": {
            "cores": load.cores,
            "others": load.others,
            "warning": load.warning(threads),
        },
        "devices": ["cpu", *(f"cuda:{i} {name}" for i, name in enumerate(names))],
    }


def _locks(results: Path, nodes: int | None, wait: float) -> dict[str, str | None]:
    """How processes kept apart in a results folder, and what is wrong. Leaves no file behind."""
    from harness.runs.store.lock_proof import contest_among_nodes, contest_here, mount_problem

    above = [results, *results.parents]
    absent = [folder for folder in above if not folder.exists()]
    try:
        contest = (
            contest_here(results) if nodes is None else contest_among_nodes(results, nodes, wait)
        )
    except OSError as error:
        return {"locks": None, "problem": f"cannot write to {results}: {error}"}
    finally:
        for folder in absent:
            with suppress(OSError):
                folder.rmdir()
    apart = contest.turns - contest.clashes
    where = "processes of this machine" if nodes is None else "machines"
    return {
        "locks": f"{contest.processes} {where} kept apart in {apart} of {contest.turns} turns",
        "problem": contest.problem or mount_problem(results),
    }
