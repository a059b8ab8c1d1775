"""A copy of the package and its specs, to which a test adds what a user would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def copied(place: Path) -> Path:
    """Copy the package, the tasks and the specs to a folder; returns it."""
    for name in ("harness", "specs", "tasks"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    return place


def harness(
    place: Path, *arguments: str, code: int = 0, module: str = "harness"
) -> subprocess.CompletedProcess[str]:
    """Run the copy's command line in its folder; its exit code has to be `code`."""
    environment = {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done
