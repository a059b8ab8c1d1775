"""How much longer a small run takes beside two busy loops: `python tests/bench/busy_machine.py`.

Runs the README's task with three methods (training included) in folders of its own: once to warm
up, then in turn on the idle machine and beside two loops that never wait, each in a session of its
own (Linux shares two cores between three sessions: 1.5 × is the least). A plain Python loop of
about the same processor time, which waits for nothing, shows what the scheduler gives at that time.
Prints the median times and the ratios of busy to idle; exits 1 if the run's is above 1.6 and above
the loop's. Takes about five minutes on two cores, which must be idle.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from harness.runs.services.forecasts.busy import Watch

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 1.6
METHODS = "eap,eap_ig,activation_patching"
LOOP = "while True: pass"
COUNTED = "for _ in range(3 * 10**8): pass"
ROUNDS = 3


def task() -> str:
    """The README's task."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return readme.split("```yaml tasks/gift.yaml\n")[1].split("```")[0]


def seconds_of_run() -> float:
    """Wall seconds of `harness run` on the task in a session of its own, nothing reused."""
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
            [*command, "--methods", METHODS],
            cwd=place,
            env=environment,
            capture_output=True,
            check=True,
            start_new_session=True,
        )
        return time.perf_counter() - began


def seconds_of_loop() -> float:
    """Wall seconds of a plain Python loop in a session of its own."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", COUNTED], start_new_session=True, check=True)
    return time.perf_counter() - began


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """So many loops that never wait, each in a session of its own."""
    with ExitStack() as stack:
        for _ in range(count):
            loop = subprocess.Popen([sys.executable, "-c", LOOP], start_new_session=True)
            stack.callback(loop.wait)
            stack.callback(loop.kill)
        time.sleep(1.0)
        yield


def main() -> int:
    """Measure idle and busy in turn; return the exit code."""
    before = Watch().load(2.0)
    print(f"other processes use {before.others:.2f} of {before.cores} cores before the start")
    if before.others > 0.2:
        print("this machine is not idle: the ratio would mean nothing", file=sys.stderr)
        return 2
    seconds_of_run()
    measured: dict[str, Callable[[], float]] = {
        "harness run": seconds_of_run,
        "plain loop": seconds_of_loop,
    }
    idle: dict[str, list[float]] = {name: [] for name in measured}
    busy: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(ROUNDS):
        for times, loops in ((idle, 0), (busy, 2)):
            with busy_loops(loops):
                for name, measure in measured.items():
                    times[name].append(measure())
    ratio = {name: median(busy[name]) / median(idle[name]) for name in measured}
    for name in measured:
        each = ", ".join(f"{b:.1f}/{a:.1f}" for a, b in zip(idle[name], busy[name], strict=True))
        print(
            f"{name}: idle {median(idle[name]):.1f} s, busy {median(busy[name]):.1f} s: "
            f"{ratio[name]:.2f} × (busy/idle by round: {each})"
        )
    allowed = max(LIMIT, ratio["plain loop"])
    print(f"allowed: {allowed:.2f} ×")
    return int(ratio["harness run"] > allowed)


if __name__ == "__main__":
    raise SystemExit(main())
