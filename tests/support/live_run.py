"""A run of made-up cells with the progress of `harness run`: `python -m support.live_run FOLDER`.

Two cells go on until the file `go` appears; the others are quick, and one of them fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.cli.progress import Progress
from harness.runs.executors.local import LocalExecutor
from harness.runs.executors.session import Settings
from harness.runs.plan import Plan
from harness.runs.store import CellStore, ModelStore
from support.fake_cells import COMPUTE, a_cell, a_method, a_task

EVIL = "evil\x1b[2J\x1b[31m"
WHY = "no room left on the device; " + "free some, and run the same command again; " * 3


def plan_of(folder: Path) -> Plan:
    long = [
        a_cell(a_task(name), a_method("slow", until=str(folder / "go"))) for name in ("one", "two")
    ]
    quick = a_cell(a_task("three"), a_method(EVIL))
    broken = a_cell(a_task("four"), a_method("broken", fail=WHY))
    return Plan("trial", (broken, quick, *long))


def main(folder: Path, jobs: int) -> None:
    plan = plan_of(folder)
    with Progress(plan, log=folder / "run.log") as progress:
        progress.say("4 cells to compute")
        settings = Settings(ModelStore(folder / "models"), COMPUTE, notify=progress)
        try:
            LocalExecutor(jobs).run(plan, CellStore(folder / "trial"), settings)
        except KeyboardInterrupt:
            progress.close_view()
            for line in progress.interrupted():
                progress.say(line)
        else:
            progress.close_view()
        progress.say("that is all")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
