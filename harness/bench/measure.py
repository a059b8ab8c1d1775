"""What methods cost, in plain forward+backwards of the same model, beside the floor.

Every figure is a ratio of medians measured in one process in turns, so that a slow machine or a
busy neighbour shifts both sides. Two precisions are compared by processor time, which neighbours
hardly move (on CUDA by wall time). Peak memory is taken in a fresh process per row, above what
model and prompts already use, once the model of the timings is gone. Floors are counted in
`harness.bench.floors`, the memory of an Edge Pruning step in `harness.bench.memory`.
"""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch

from harness.bench.floors import floors
from harness.bench.memory import step_gib
from harness.bench.models import count_parameters
from harness.bench.rows import STANDARD
from harness.bench.subject import ROWS, Bench, Run, Subject
from harness.circuits.edges.patched.live import LiveNodes
from harness.errors import NotFound
from harness.progress import stage, through
from harness.runs.compute.cost import Times, in_fresh_process, measured

Key = TypeVar("Key", str, tuple[str, int])
"""A row's name, or with whether it is in `dtype` (1) or in the precision beside it (0)."""


def run_bench(bench: Bench, rows: tuple[str, ...] = ()) -> dict[str, Any]:
    """Measure the named rows (default: `bench.rows.STANDARD`).

    Returns `{"model", "parameters", "edges", "batch", "threads", "device", "dtype", "tf32",
    "counted_gib", "plain_fb_seconds", "beside", "plain_ratio", "rows": [{"method", "cost_fb",
    "floor_fb", "seconds", "tokens_per_second", "peak_mib", "ratio"}]}`:
        counted_gib        of an Edge Pruning step, by purpose; `all` is their sum
        cost_fb, floor_fb  plain forward+backwards: measured, and the least by counting
        tokens_per_second  tokens of the batch by the row's seconds
        peak_mib           most memory above model and prompts
        ratio              the row's time by that in the precision `beside`; None without one
    Raises `NotFound` for an unknown model or row, `HarnessError` for a device, precision or length
    that is not available.
    """
    if unknown := [row for row in rows if row not in ROWS]:
        raise NotFound(f"no row {unknown[0]!r} to bench; rows are {', '.join(ROWS)}")
    chosen = [name for name in ROWS if name in (rows or STANDARD)]
    timings = _timings(bench, chosen)
    gc.collect()
    if bench.device == "cuda":
        torch.cuda.empty_cache()
    plain, tokens = timings.seconds["plain"], bench.batch * bench.length
    return {
        **timings.about,
        "plain_fb_seconds": plain,
        "beside": bench.beside,
        "plain_ratio": timings.ratios.get("plain"),
        "rows": [
            {
                "method": name,
                "cost_fb": timings.seconds[name] / plain,
                "floor_fb": timings.floors[name],
                "seconds": timings.seconds[name],
                "tokens_per_second": tokens / timings.seconds[name],
                "peak_mib": in_fresh_process(_peak, bench, name),
                "ratio": timings.ratios.get(name),
            }
            for name in through(chosen, "memory of rows", "row")
        ],
    }


class _Timings(NamedTuple):
    about: dict[str, Any]
    seconds: dict[str, float]
    floors: dict[str, float]
    ratios: dict[str, float]


def _timings(bench: Bench, chosen: list[str]) -> _Timings:
    """All that is measured in one process; its model is freed on return."""
    subject = Subject(bench)
    config, dtype = subject.config, getattr(torch, bench.dtype)
    about = {
        "model": bench.model,
        "parameters": count_parameters(config),
        "edges": subject.graph.n_edges,
        "batch": [bench.batch, bench.length],
        "threads": bench.threads,
        "device": bench.device,
        "dtype": bench.dtype,
        "tf32": bench.tf32,
        "counted_gib": step_gib(config, bench.batch, bench.length, dtype, bench.device),
    }
    nodes = LiveNodes.under(
        subject.graph, subject.patchable.space.matrix(subject.small[None]), of_a_run=True
    )
    runs = _runs(subject, chosen)
    if bench.beside is None:
        times, ratios = _in_turns(runs, bench), {}
    else:
        other = _runs(Subject(replace(bench, dtype=bench.beside, beside=None)), chosen)
        both = {
            (name, own): run for name in runs for own, run in enumerate((other[name], runs[name]))
        }
        together = _in_turns(both, bench)
        times = {name: together[name, 1] for name in runs}
        ratios = {name: one.processor / together[name, 0].processor for name, one in times.items()}
    seconds = {name: one.wall for name, one in times.items()}
    return _Timings(about, seconds, floors(config, bench.length, nodes), ratios)


def _runs(subject: Subject, chosen: list[str]) -> dict[str, Run]:
    return {"plain": subject.plain, **{name: ROWS[name](subject) for name in chosen}}


def _in_turns(runs: dict[Key, Run], bench: Bench) -> dict[Key, Times]:
    """Median times of each run; one round of all to warm up, then `repeats` rounds.

    On CUDA, and of what times itself, wall time is all there is.
    """
    times: dict[Key, list[Times]] = {key: [] for key in runs}
    with stage("bench", (bench.repeats + 1) * len(runs), "run") as shown:
        for key, run in list(runs.items()) * (bench.repeats + 1):
            shown.advance(0, key if isinstance(key, str) else key[0])
            times[key].append(_times(run, bench.device))
            shown.advance()
    medians = {}
    for key, values in times.items():
        walls, processors = zip(*values[1:], strict=True)
        medians[key] = Times(statistics.median(walls), statistics.median(processors))
    return medians


def _times(run: Run, device: str) -> Times:
    wall, processor = time.perf_counter(), time.process_time()
    returned = run()
    if device == "cuda":
        torch.cuda.synchronize()
    times = Times(time.perf_counter() - wall, time.process_time() - processor)
    if isinstance(returned, float):
        return Times(returned, returned)
    return Times(times.wall, times.wall) if device == "cuda" else times


def _peak(bench: Bench, name: str) -> float:
    subject = Subject(bench)
    # A plain forward first: libraries set up their own buffers once.
    with torch.no_grad():
        subject.model(subject.batch.clean[:1])
    run = ROWS[name](subject)
    with measured(bench.device) as cost:
        run()
    return cost.peak_mib
