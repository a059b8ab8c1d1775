"""Where a result was computed: versions, commit, machine, command. Never part of a result.

Everything here may differ between two runs that give the same numbers, so it is stored beside
`result.json`, not in it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import harness
from harness.spec.types import Runtime

PACKAGES = ("torch", "numpy", "polars", "safetensors", "tokenizers", "jsonschema")


def collect(runtime: Runtime, sent_by: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Provenance of numbers computed by this process, now.

    `sent_by`: entries of the process that had them computed here, which count (`sender`).
    """
    return {
        "argv": list(sys.argv),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": dict(versions()),
        "git": package_git_state(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "device": runtime.device,
        "threads": runtime.threads,
        **({} if runtime.processes == 1 else {"processes": runtime.processes}),
        **({} if runtime.shards == 1 else {"shards": runtime.shards}),
        **(sent_by or {}),
    }


def sender() -> dict[str, Any]:
    """What is to be told of this process where others compute for it with its code."""
    return {"argv": list(sys.argv), "git": package_git_state()}


@cache
def versions() -> Mapping[str, str | None]:
    """Versions of Python, the harness and the packages that can affect a result."""
    installed: dict[str, str | None] = {
        "python": platform.python_version(),
        "harness": harness.__version__,
    }
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = None
    return installed


def package_git_state() -> Mapping[str, Any] | None:
    """`git_state` of this package."""
    return git_state(Path(__file__).parents[1])


@cache
def git_state(folder: Path) -> Mapping[str, Any] | None:
    """Commit of the package's own repository and whether it has changes; None if not in one.

    A package installed inside another repository (a virtual environment there) is not tracked by
    it, so the commit of that repository would not identify this code.
    """
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--", ".")
    if commit is None or changes is None:
        return None
    return {"commit": commit.strip(), "dirty": bool(changes.strip())}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git, or a repository too slow to ask: the commit is unknown
    return done.stdout if done.returncode == 0 else None


@cache
def cpu_name() -> str:
    """The processor's name as reported by the system."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
