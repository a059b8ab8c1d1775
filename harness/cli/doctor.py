"""`harness doctor`: check that this machine is ready."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from harness.cli import options


@click.command("doctor")
@options.results("-o")
@options.as_json
def command(results: Path, as_json: bool) -> int:
    """Show versions, devices and threads, and whether results can be written. Exit 1 if not."""
    facts = {**_machine(), "results": str(results), "problem": _write_problem(results)}
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        for name, value in facts.items():
            click.echo(f"{name:>12}  {_line(value)}")
    return 1 if facts["problem"] else 0


def _line(value: Any) -> str:
    from harness.spec.printable import printable

    if isinstance(value, dict):
        value = ", ".join(f"{key} {item or 'not installed'}" for key, item in value.items())
    elif isinstance(value, list):
        value = ", ".join(map(str, value)) or "none"
    return "none" if value is None else printable(str(value))


def _machine() -> dict[str, Any]:
    import torch

    from harness.runs.store import provenance

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": dict(provenance.versions()),
        "git": provenance.package_git_state(),
        "cpu": provenance.cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
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
