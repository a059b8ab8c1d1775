"""Locks are tried, not believed: processes that exclude each other, and some that do not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.runs.store.lock_proof import TURNS, contest, contest_here, mount_problem

NO_LOCKS = """
import fcntl
fcntl.flock = lambda descriptor, operation: None
"""


def doctor(*arguments: str, folder: Path, locks: bool = True) -> subprocess.Popen[str]:
    """The verb in a process of its own; without `locks`, one whose locks do nothing."""
    path = os.environ.get("PYTHONPATH", "")
    if not locks:
        site = folder / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(NO_LOCKS)
        path = f"{site}{os.pathsep}{path}"
    command = [sys.executable, "-m", "harness", "doctor", "--json", *arguments]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_two_processes_exclude_each_other(tmp_path: Path) -> None:
    outcome = contest_here(tmp_path)
    assert (outcome.processes, outcome.turns, outcome.clashes) == (2, 2 * TURNS, 0)
    assert outcome.problem is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_folder_where_locks_do_nothing_is_named(tmp_path: Path) -> None:
    results = tmp_path / "results"
    with doctor("-o", str(results), folder=tmp_path, locks=False) as process:
        facts = json.loads(process.communicate(timeout=240)[0])
    assert process.returncode == 1
    assert "locks do nothing there" in facts["problem"]
    assert facts["results"] == str(results)
    assert not results.exists()


@pytest.mark.slow
@pytest.mark.parametrize("locks", [True, False])
def test_nodes_meet_in_the_folder(tmp_path: Path, locks: bool) -> None:
    """Three calls stand for three machines; what one killed in its turn left does not matter."""
    results = tmp_path / "results"
    (results / ".doctor").mkdir(parents=True)
    (results / ".doctor" / "inside").touch()
    arguments = ("-o", str(results), "--nodes", "3", "--wait", "240")
    processes = [doctor(*arguments, folder=tmp_path, locks=locks) for _ in range(3)]
    said = [json.loads(process.communicate(timeout=240)[0]) for process in processes]
    assert {process.returncode for process in processes} == {0 if locks else 1}
    assert {one["problem"] is None for one in said} == {locks}
    assert len({one["locks"] for one in said}) == 1
    assert list(results.iterdir()) == []


def test_who_stays_alone_says_so(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="1 of 2 processes came"):
        contest(tmp_path / "meeting", 2, wait=0.05)
    assert list((tmp_path / "meeting").iterdir()) == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("server:/x /shared nfs4 rw,vers=4.2,local_lock=none 0 0", None),
        ("server:/x /shared nfs rw,vers=3,nolock,local_lock=none 0 0", "nolock"),
        ("server:/x /shared nfs rw,vers=3,local_lock=all 0 0", "local_lock=all"),
        ("10.0.0.1@tcp:/l /shared lustre rw,localflock 0 0", "localflock"),
        ("10.0.0.1@tcp:/l /shared lustre rw,flock 0 0", None),
        ("server:/x /sha nfs rw,nolock 0 0", None),
        ("/dev/a /shared ext4 rw,nolock 0 0", None),
    ],
)
def test_mounts_whose_locks_stay_on_one_machine_are_named(line: str, problem: str | None) -> None:
    mounts = f"/dev/root / ext4 rw 0 0\n{line}\n"
    said = mount_problem(Path("/shared/results"), mounts)
    assert (said is None) == (problem is None)
    if problem is not None and said is not None:
        assert said.startswith("/shared (")
        assert f"mounted with {problem}:" in said


def test_mount_points_with_spaces_and_inner_mounts_are_understood() -> None:
    mounts = "server:/x /my\\040data nfs rw,nolock 0 0\n/dev/b /my\\040data/local ext4 rw 0 0\n"
    assert mount_problem(Path("/my data/results"), mounts) is not None
    assert mount_problem(Path("/my data/local/results"), mounts) is None
