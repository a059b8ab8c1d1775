"""The script for a cluster as the page has it, by processes that stand for its machines."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.conftest import TASK
from support.checkout import ROOT

PAGE = ROOT / "harness" / "docs" / "clusters.md"
CELLS = 8


def script(folder: Path) -> Path:
    """The page's script, saved as a reader does."""
    match = re.search(r"^```sh cells.sbatch\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert match
    path = folder / "cells.sbatch"
    path.write_text(match[1])
    return path


def program(folder: Path) -> Path:
    """The folder of a program `harness` that is the code under test."""
    path = folder / "bin" / "harness"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m harness "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path.parent


def start(folder: Path, programs: Path, results: str) -> "subprocess.Popen[bytes]":
    """The process of one machine."""
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(script(folder)), "cluster", results]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def cells_of(folder: Path) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in folder.glob("cluster/cells/*/result.json")}


def holder_of_a_cell(results: Path) -> int:
    """The process that computes some cell at this moment, by the system's list of locks."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        cells = {p.stat().st_ino for p in results.glob("cluster/.locks/*.lock") if len(p.stem) > 60}
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and int(fields[5].rpartition(":")[2]) in cells:
                return int(fields[4])
        time.sleep(0.002)
    raise AssertionError("no process took a cell")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/locks").is_file(), reason="finds the victim by /proc/locks")
def test_three_processes_one_killed_compute_what_one_does(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "toy.yaml").write_text(TASK.format(name="toy", version="1"))
    (tmp_path / "specs" / "suites").mkdir(parents=True)
    (tmp_path / "specs" / "suites" / "cluster.yaml").write_text(
        "spec_version: 1\nname: cluster\ntitle: A cluster\ntasks: [toy]\n"
        "methods: [eap, eap_ig]\ncontrols: [random]\nseeds: [0, 1, 2, 3]\n"
    )
    programs = program(tmp_path)
    alone = start(tmp_path, programs, "alone")
    assert alone.wait(120) == 0
    machines = [start(tmp_path, programs, "shared") for _ in range(3)]
    victim = holder_of_a_cell(tmp_path / "shared")
    assert victim in {process.pid for process in machines}
    os.kill(victim, signal.SIGKILL)
    codes = sorted(process.wait(120) for process in machines)
    assert codes == [-signal.SIGKILL, 0, 0]
    cells = cells_of(tmp_path / "shared")
    assert cells == cells_of(tmp_path / "alone")
    assert len(cells) >= CELLS
    work = tmp_path / "shared" / "cluster" / ".work"
    assert not list(work.glob("*"))
