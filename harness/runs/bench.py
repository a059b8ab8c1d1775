"""What methods cost, in plain forward+backwards of the same model, beside the floor.

Every figure is a ratio of medians measured in one process in turns, so that a slow machine or a
busy neighbour shifts both sides. Peak memory is taken in a fresh process per row, above what model
and prompts already use.

The floor counts the multiply-adds that a dense implementation cannot avoid, per token:
blocks B = L·(4·D·H·K + 2·D·M), unembedding U = D·V, mixing X = edges·D; of a small circuit those of
the nodes that it needs, and of the edges between these. A plain
forward+backward is 3·(B + U); the floors below read logits at one of T positions. Ratios can lie
below a floor where the denominator's multiply-adds (weight gradients) run slower.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, cast

import torch

from harness.circuits.graph import Graph
from harness.circuits.live import LiveNodes
from harness.errors import NotFound
from harness.models.config import TransformerConfig
from harness.runs.bench_subject import IG_STEPS, MODELS, SMALL, Bench, Subject
from harness.runs.cost import in_fresh_process, measured


def floors(config: TransformerConfig, length: int, nodes: LiveNodes) -> dict[str, float]:
    """Least cost of every row in plain forward+backwards, by counting multiply-adds.

    `nodes`: those of the small circuit.
    """
    head = 4 * config.d_model * config.d_head
    mlp = 2 * config.d_model * config.d_mlp
    blocks = config.n_layers * (config.n_heads * head + mlp)
    small = sum(map(len, nodes.groups)) * head + sum(nodes.mlps) * mlp  # no head is shared here
    small_edges = int(nodes.of(nodes.graph.allowed).sum())
    unembed = config.d_model * config.d_vocab
    mixing = Graph.of(config).n_edges * config.d_model
    plain = 3 * (blocks + unembed)
    forward = blocks + unembed / length
    masked = 2 * forward + 3 * mixing  # mixed once forward, twice backward (writers and masks)
    small_forward, small_mixing = small + unembed / length, small_edges * config.d_model
    costs = {
        "eap": blocks + 2 * forward + mixing,
        f"eap_ig({IG_STEPS})": blocks + IG_STEPS * 2 * forward + mixing,
        "edge_pruning step": blocks + forward + masked,
        "edge_pruning step+kept": masked,
        f"edge_pruning step+kept {SMALL}": 2 * small_forward + 3 * small_mixing,
        "acdc per edge": unembed / length,  # whatever is dropped, the answer has to be read
        "evaluation": forward + mixing,
        f"evaluation {SMALL}": small_forward + small_mixing,
        "evaluation+counterfactual": blocks + forward + mixing,
    }
    return {name: cost / plain for name, cost in costs.items()}


def run_bench(bench: Bench, rows: tuple[str, ...] = ()) -> dict[str, Any]:
    """Measure the named rows (default: all).

    Returns `{"model", "batch", "threads", "plain_fb_seconds", "rows": [{"method", "cost_fb",
    "floor_fb", "seconds", "peak_mib"}]}`. Raises `NotFound` for an unknown model or row.
    """
    if bench.model not in MODELS:
        raise NotFound(f"no model {bench.model!r} to bench; known: {', '.join(MODELS)}")
    subject = Subject(bench)
    runs = subject.runs()
    unknown = [row for row in rows if row not in runs]
    if unknown:
        raise NotFound(f"nothing to bench called {unknown[0]!r}; known: {', '.join(runs)}")
    chosen = {name: run for name, run in runs.items() if not rows or name in rows}
    seconds = _in_turns({"plain": subject.plain, **chosen}, bench)
    nodes = LiveNodes.under(subject.graph, subject.small[None], of_a_run=True)
    least = floors(MODELS[bench.model], bench.length, nodes)
    return {
        "model": bench.model,
        "batch": [bench.batch, bench.length],
        "threads": bench.threads,
        "plain_fb_seconds": seconds["plain"],
        "rows": [
            {
                "method": name,
                "cost_fb": seconds[name] / seconds["plain"],
                "floor_fb": least[name],
                "seconds": seconds[name],
                "peak_mib": in_fresh_process(_peak, bench, name),
            }
            for name in chosen
        ],
    }


def _in_turns(runs: dict[str, Callable[[], object]], bench: Bench) -> dict[str, float]:
    """Median seconds of each run; one round of all to warm up, then `repeats` rounds."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(bench.repeats + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            found = run()
            if bench.device == "cuda":
                torch.cuda.synchronize()
            own = isinstance(found, float)  # it has timed a part of what it ran
            times[name].append(cast(float, found) if own else time.perf_counter() - began)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def _peak(bench: Bench, name: str) -> float:
    subject = Subject(bench)
    # A plain forward first: libraries set up their own buffers once.
    with torch.no_grad():
        subject.model(subject.batch.clean[:1])
    run = subject.runs()[name]
    with measured(bench.device) as cost:
        run()
    return cost.peak_mib
