"""`harness doctor`: check that this machine is ready."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from harness.cli import options


@click.command("doctor")
@options.results("-o")
@options.as_json
def command(results: Path, as_json: bool) -> int:
    """Show versions, devices, threads, and how busy the machine is.

    Exit 1 if results cannot be written.
    """
    facts = {**_machine(), "results": str(results), "problem": _write_problem(results)}
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        from harness.spec.printable import printable

        for name, text in _lines(facts).items():
            click.echo(f"{name:>12}  {printable(text)}")
    return 1 if facts["problem"] else 0


def _lines(facts: dict[str, Any]) -> dict[str, str]:
    versions = facts["versions"].items()
    busy = facts["busy"]
    return {
        **{name: "none" if value is None else str(value) for name, value in facts.items()},
        "versions": ", ".join(f"{name} {one or 'not installed'}" for name, one in versions),
        "git": _git_line(facts["git"]),
        "busy": busy["warning"] or f"no: others use {busy['others']:.1f} of {busy['cores']} cores",
        "devices": ", ".join(facts["devices"]),
    }


def _git_line(git: Mapping[str, Any] | None) -> str:
    if git is None:
        return "none: this package is not in a repository of its own"
    return f"commit {git['commit']}, {'with changes' if git['dirty'] else 'no changes'}"


def _machine() -> dict[str, Any]:
    import torch

    from harness.runs.services.forecasts.busy import Watch
    from harness.runs.store import provenance

    load, threads = Watch().load(0.3), torch.get_num_threads()
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": dict(provenance.versions()),
        "git": provenance.package_git_state(),
        "cpu": provenance.cpu_name(),
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


def _write_problem(results: Path) -> str | None:
    """Why results cannot be written there; None if they can. Leaves no file behind."""
    from harness.runs.store.locks import try_lock

    existed = results.exists()
    probe = results / ".doctor.lock"
    try:
        with try_lock(probe) as held:
            if not held:
                return f"{probe} is locked by another process"
        probe.unlink(missing_ok=True)
        if not existed:
            results.rmdir()
    except OSError as error:
        return f"cannot write to {results}: {error}"
    return None
