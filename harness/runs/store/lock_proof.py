"""Whether locks keep processes apart in a folder: tried, not believed.

Each of several processes takes the same lock again and again and, while it holds it, makes a file
that must not be there yet. Creating a file exclusively is safe on every file system in use, also
where locks are not (NFS mounted with `nolock`, Lustre with `localflock`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from harness.disk import replace_file
from harness.errors import HarnessError
from harness.runs.store.atomic import json_bytes, read_json
from harness.runs.store.locks import lock

TURNS = 40  # of each process
HOLD = 0.002  # seconds
AMONG_NODES = ".doctor"


@dataclass(frozen=True)
class Contest:
    """What happened when processes took turns."""

    processes: int
    turns: int
    clashes: int  # turns in which another process held the lock too

    @property
    def problem(self) -> str | None:
        """What is wrong; None if each had the lock to itself."""
        if not self.clashes:
            return None
        return (
            f"locks do nothing there: in {self.clashes} of {self.turns} turns two of "
            f"{self.processes} processes held the same lock, so two runs could write one result"
        )


def contest_here(results: Path, wait: float = 60.0) -> Contest:
    """Let two processes of this machine contend in a results folder. Leaves nothing behind."""
    results.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=".doctor-", dir=results))
    command = [sys.executable, "-m", __spec__.name, str(folder), str(wait)]
    try:
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as other:
            try:
                return contest(folder, 2, wait)
            except BaseException:
                other.kill()
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def contest_among_nodes(results: Path, nodes: int, wait: float) -> Contest:
    """Contend with the same call on other machines, that are started within `wait` seconds.

    Raises `HarnessError` if they do not come.
    """
    return contest(results / AMONG_NODES, nodes, wait)


def contest(folder: Path, processes: int, wait: float) -> Contest:
    """Contend with other processes that call this with the same folder; all get the same outcome.

    Raises `HarnessError` if not all come within `wait` seconds, `OSError` where the folder cannot
    be written or files not be locked.
    """
    key = f"{os.uname().nodename}-{os.getpid()}-{time.time_ns()}"
    meeting = _Meeting(folder, key, processes, wait)
    meeting.wait("here", {})
    if meeting.is_first("here"):
        (folder / "inside").unlink(missing_ok=True)  # of a process that was killed in its turn
    meeting.wait("ready", {})
    counts = meeting.wait("done", {"turns": TURNS, "clashes": _take_turns(folder)})
    outcome = Contest(
        processes, sum(one["turns"] for one in counts), sum(one["clashes"] for one in counts)
    )
    meeting.leave()
    return outcome


def _take_turns(folder: Path) -> int:
    """Hold the lock `TURNS` times; how often it was not held alone."""
    clashes = 0
    for _ in range(TURNS):
        with lock(folder / "turn.lock"):
            try:
                os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            except FileExistsError:
                clashes += 1
                continue
            time.sleep(HOLD)
            (folder / "inside").unlink()
    return clashes


@dataclass
class _Meeting:
    """Processes that wait for each other by files in a folder."""

    folder: Path
    key: str
    processes: int
    patience: float

    def wait(self, phase: str, says: dict[str, int]) -> list[dict[str, int]]:
        """Say something in a phase; what all said, once they have."""
        self.folder.mkdir(parents=True, exist_ok=True)
        own = self.folder / f"{phase}-{self.key}.json"
        replace_file(own, json_bytes(says))
        begun, oldest = time.monotonic(), own.stat().st_mtime - self.patience
        while True:
            # Files of an earlier meeting that was given up are older than that.
            files = [p for p in self.folder.glob(f"{phase}-*.json") if _time(p) >= oldest]
            if len(files) >= self.processes:
                return [read_json(path) for path in files]
            if time.monotonic() - begun > self.patience:
                for leftover in self.folder.glob(f"*-{self.key}.json"):
                    leftover.unlink(missing_ok=True)
                raise HarnessError(
                    f"{len(files)} of {self.processes} processes came to {self.folder} within "
                    f"{self.patience:g} s; start this command on all of them at once"
                )
            time.sleep(0.01)

    def is_first(self, phase: str) -> bool:
        """Whether this process is the first by name of those in a phase."""
        return min(self.folder.glob(f"{phase}-*.json")).name == f"{phase}-{self.key}.json"

    def leave(self) -> None:
        """Remove the folder when all have read what was said; the first by name does."""
        replace_file(self.folder / f"read-{self.key}.json", json_bytes({}))
        if not self.is_first("done"):
            return
        begun = time.monotonic()
        while time.monotonic() - begun < self.patience:
            if len(list(self.folder.glob("read-*.json"))) >= self.processes:
                break
            time.sleep(0.01)
        shutil.rmtree(self.folder, ignore_errors=True)


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


# ---------------------------------------------------------------- mounts
def mount_problem(folder: Path, mounts: str | None = None) -> str | None:
    """Why locks there do not reach other machines, by how the folder is mounted; None if they do.

    `mounts`: lines as in /proc/mounts, by default that file; None where the system has none.
    """
    if mounts is None:
        listed = Path("/proc/mounts")
        mounts = listed.read_text(errors="replace") if listed.is_file() else ""
    mount = _mount_of(folder.absolute(), mounts)
    if mount is None:
        return None
    point, kind, options = mount
    local = {"nolock", "local_lock=all", "local_lock=flock"} if kind.startswith("nfs") else set()
    local = {"localflock"} if kind == "lustre" else local
    if wrong := sorted(local.intersection(options)):
        return (
            f"{point} ({kind}) is mounted with {wrong[0]}: locks there hold on this machine alone, "
            "so runs on two machines could write one result; mount it without, or choose another "
            "folder"
        )
    return None


def _mount_of(folder: Path, mounts: str) -> tuple[str, str, list[str]] | None:
    """Mount point, type and options of the file system that a path is on."""
    best: tuple[str, str, list[str]] | None = None
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1])
        inside = folder.is_relative_to(point)
        if inside and (best is None or len(point) >= len(best[0])):
            best = point, fields[2], fields[3].split(",")
    return best


if __name__ == "__main__":
    contest(Path(sys.argv[1]), 2, float(sys.argv[2]))
