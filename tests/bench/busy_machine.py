"""How much longer a small run takes beside two busy loops: `python tests/bench/busy_machine.py`.

Runs the README's task with three methods (training included) in folders of its own: once to warm
up, then on the idle machine and beside two loops that never wait, each in a session of its own
(Linux shares the cores between sessions first). Prints the times and the ratio of busy to idle, of
the threads that a run takes if nothing is said and of two; exits 1 if the former is above 1.6.
Takes about two minutes on two cores, which must be idle.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from harness.runs.services.forecasts.busy import Watch

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1.6
METHODS = "eap,eap_ig,activation_patching"
LOOP = "while True: pass"


def task() -> str:
    """The README's task."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return readme.split("```yaml tasks/gift.yaml\n")[1].split("```")[0]


def seconds_of_run(*options: str) -> float:
    """Wall seconds of `harness run` on the task, nothing reused."""
    # The policy is the harness's own business.
    environment = {name: x for name, x in os.environ.items() if not name.startswith("OMP_")}
    environment["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "tasks", "gift.yaml")
        file.parent.mkdir()
        file.write_text(task(), encoding="utf-8")
        command = [sys.executable, "-m", "harness", "run", "gift", "--seeds", "0"]
        began = time.perf_counter()
        subprocess.run(
            [*command, "--methods", METHODS, *options],
            cwd=place,
            env=environment,
            capture_output=True,
            check=True,
        )
        return time.perf_counter() - began


def main() -> int:
    """Measure idle, then busy; return the exit code."""
    before = Watch().load(2.0)
    print(f"other processes use {before.others:.2f} of {before.cores} cores before the start")
    if before.others > 0.2:
        print("this machine is not idle: the ratio would mean nothing", file=sys.stderr)
        return 2
    seconds_of_run()
    two = ("--threads", "2")
    idle, idle_two = seconds_of_run(), seconds_of_run(*two)
    with ExitStack() as stack:
        for _ in range(2):
            loop = subprocess.Popen([sys.executable, "-c", LOOP], start_new_session=True)
            stack.callback(loop.wait)
            stack.callback(loop.kill)
        time.sleep(1.0)
        busy, busy_two = seconds_of_run(), seconds_of_run(*two)
    for name, alone, beside in (("two threads", idle_two, busy_two), ("as it is", idle, busy)):
        print(f"{name}: idle {alone:.1f} s, busy {beside:.1f} s: {beside / alone:.2f} ×")
    print(f"allowed: {LIMIT} ×")
    return int(busy / idle > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
