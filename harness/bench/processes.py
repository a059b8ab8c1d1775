"""What methods gain where several processes share their prompts: in all of them, and in one."""

from __future__ import annotations

import time
from typing import Any

import torch

from harness import ranks
from harness.bench.rows import SHARED
from harness.bench.subject import ROWS, Bench, Run, Subject
from harness.errors import HarnessError, NotFound
from harness.launcher import local_rank
from harness.progress import stage
from harness.runs.compute.gpu import be_worker


def bench_processes(bench: Bench, rows: tuple[str, ...] = ()) -> dict[str, Any]:
    """Measure the named rows (default: `bench.rows.SHARED`) inside `ranks.joined()`.

    Each of `repeats` rounds runs a row in process 0 alone, while the others wait, and in all.
    Returns `{"model", "batch", "threads", "device", "dtype", "tf32", "processes", "repeats",
    "rows": [{"method", "alone_seconds", "seconds", "speedup"}]}`, the least of all rounds. Raises
    `NotFound` for a row that no process can share, `HarnessError` for fewer prompts than processes.
    """
    if unknown := [row for row in rows if row not in SHARED]:
        raise NotFound(
            f"processes cannot share the row {unknown[0]!r}; rows are {', '.join(SHARED)}"
        )
    if bench.batch < ranks.world():
        raise HarnessError(
            f"{ranks.world()} processes cannot share {bench.batch} prompts; raise --batch"
        )
    be_worker(local_rank())
    subject = Subject(bench)
    chosen = [name for name in SHARED if name in (rows or SHARED)]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
    with stage("bench", (bench.repeats + 1) * len(chosen), "run") as shown:
        for name in chosen:
            with ranks.single():
                alone = ROWS[name](subject)
            shared = ROWS[name](subject)
            for _ in range(bench.repeats + 1):
                shown.advance(0, name)
                times[name].append((_alone(alone, bench), _together(shared, bench)))
                shown.advance()
    return {
        "model": bench.model,
        "batch": [bench.batch, bench.length],
        "threads": bench.threads,
        "device": bench.device,
        "dtype": bench.dtype,
        "tf32": bench.tf32,
        "processes": ranks.world(),
        "repeats": bench.repeats,
        "rows": [_row(name, measured[1:]) for name, measured in times.items()],
    }


def _row(name: str, measured: list[tuple[float, float]]) -> dict[str, Any]:
    alone, together = (min(times) for times in zip(*measured, strict=True))
    return {
        "method": name,
        "alone_seconds": alone,
        "seconds": together,
        "speedup": alone / together,
    }


def _alone(run: Run, bench: Bench) -> float:
    """Seconds of a run in process 0, while the others wait."""
    seconds = 0.0
    if ranks.is_first():
        with ranks.single():
            seconds = _seconds(run, bench)
    return ranks.broadcast(seconds)


def _together(run: Run, bench: Bench) -> float:
    """Seconds of a run that all processes begin together, of the slowest."""
    ranks.gathered(None)
    return max(ranks.gathered(_seconds(run, bench)))


def _seconds(run: Run, bench: Bench) -> float:
    began = time.perf_counter()
    run()
    if bench.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
