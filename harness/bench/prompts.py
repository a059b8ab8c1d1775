"""Whether memory and the cost of a prompt stay the same as prompts become more.

A task's pairs (split train) and the model that its spec describes, with random weights; methods
with their own parameters, one fresh process for each row and number of prompts. Rows:
    pairs               making the pairs alone
    eap                 one discovery
    edge_pruning epoch  a training of one set of masks in which every pair comes once
A method's row excludes making its pairs and model.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from harness.circuits.patchable import make_patchable
from harness.datasets.open import open_data
from harness.datasets.pairs import PromptPairs
from harness.datasets.repeats import count_prompts, pairs_with_repeats
from harness.discovery.masks.edge_pruning import EdgePruning
from harness.discovery.masks.prompts import steps_per_epoch
from harness.discovery.problem import Problem
from harness.discovery.registry import make_method
from harness.errors import HarnessError, NotFound
from harness.models.config import TransformerConfig
from harness.models.transformer import Transformer, random_model
from harness.progress import through
from harness.runs.compute.cost import in_fresh_process, measured
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.prepare import batched
from harness.spec.load import Library
from harness.spec.types import Runtime, Task, TrainModel

WARM_UP = 256
"""Prompts of an unmeasured first run, in which libraries set up their buffers."""

SPARSITY = 0.95

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class PromptBench:
    """What is measured: `counts` of prompts of a task (a name or path), fewest first.

    `repeats`: runs of the fewest prompts; more prompts are run once.
    """

    counts: tuple[int, ...]
    task: str = "ioi_t1"
    threads: int = 2
    repeats: int = 5
    device: Device = "cpu"


class Workload:
    """A task's data, its model with random weights, and what is run on some of its pairs."""

    def __init__(self, bench: PromptBench) -> None:
        use_runtime(Runtime(device=bench.device, threads=bench.threads))
        loaded = Library().task(bench.task)
        self.device, self.choices = bench.device, loaded.spec.evaluation
        self.data = open_data(loaded)
        self.model = _random(loaded.spec, self.data.tokenizer.size, self.data.longest)
        self.model.to(bench.device).requires_grad_(False)
        self.patchable = make_patchable(self.model, self.choices, ())

    @property
    def shape(self) -> str:
        """The model in words."""
        config = self.model.config
        return f"{config.n_layers} layers of {config.n_heads} heads, d_model {config.d_model}"

    def pairs(self, count: int) -> PromptPairs:
        """This many pairs of the task, repeated only if it has fewer."""
        return pairs_with_repeats(self.data, "train", count, 0)

    def problem(self, pairs: PromptPairs) -> Problem:
        """Discovery on pairs, as a cell has it."""
        batches = batched(self.patchable, pairs, self.device, 0)
        counterfactuals = self.patchable.counterfactuals(self.choices, batches, 0)
        generator = torch.Generator().manual_seed(0)
        return Problem(self.patchable, batches, counterfactuals, self.choices.metric, generator)

    def eap(self, pairs: PromptPairs) -> object:
        """One discovery."""
        return make_method("eap", {}).discover(self.problem(pairs))

    def pruning_epoch(self, pairs: PromptPairs) -> object:
        """A training that uses every pair once."""
        problem = self.problem(pairs)
        steps = steps_per_epoch(problem, EdgePruning.batch_size)
        return EdgePruning(steps=steps, sparsities=(SPARSITY,)).discover(problem)


Row = Callable[[Workload, PromptPairs], object]

ROWS: dict[str, Row] = {
    "pairs": lambda work, pairs: work.pairs(len(pairs)),
    "eap": Workload.eap,
    "edge_pruning epoch": Workload.pruning_epoch,
}


def _random(task: Task, vocabulary: int, longest: int) -> Transformer:
    if not isinstance(task.model, TrainModel):
        raise HarnessError(
            f"task {task.name!r} does not state its model's architecture (its model is of kind "
            f"{task.model.kind!r}); bench prompts of a task whose model is trained here"
        )
    outputs = None if task.answers is None else len(task.answers)
    shape = TransformerConfig.from_architecture(
        task.model.architecture, vocabulary, longest, outputs
    )
    return random_model(shape, seed=0)


def bench_prompts(
    bench: PromptBench, rows: tuple[str, ...] = (), log: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Measure the named rows (default: all) for each number of prompts.

    Returns `{"task", "model", "edges", "threads", "distinct", "rows": [{"method", "prompts",
    "seconds", "cost_ms", "ratio", "peak_mib", "prompts_mib"}]}`:
        distinct     different prompts among the most prompts
        seconds      wall time
        cost_ms      milliseconds for each prompt: processor time of all threads, which neighbours
                     move less than wall time; wall time on CUDA
        ratio        cost_ms divided by that of the fewest prompts, which are run before and after
                     in the same process: the median of all their runs
        peak_mib     most memory above model and prompts at any moment
        prompts_mib  memory of the prompts themselves; in row `pairs` also part of the peak
    The fewest prompts have the median seconds and cost of their own process, and ratio 1.
    Raises `NotFound` for an unknown task or row, `HarnessError` for counts that do not ascend and
    for a task whose model is not trained here.
    """
    if unknown := [row for row in rows if row not in ROWS]:
        raise NotFound(f"no row {unknown[0]!r} for prompts; rows are {', '.join(ROWS)}")
    if sorted(set(bench.counts)) != list(bench.counts) or min(bench.counts, default=0) < 1:
        raise HarnessError(
            f"numbers of prompts must ascend from at least 1, not {list(bench.counts)}"
        )
    work = Workload(bench)
    measured_rows: list[dict[str, Any]] = []
    chosen = [(row, count) for row in ROWS if not rows or row in rows for count in bench.counts]
    for name, count in through(chosen, "bench", "row"):
        log(f"{name} on {count:,} prompts")
        measured_rows.append(in_fresh_process(_measured, bench, name, count))
    return {
        "task": bench.task,
        "model": work.shape,
        "edges": len(work.patchable.space),
        "threads": bench.threads,
        "distinct": count_prompts(work.pairs(bench.counts[-1])),
        "rows": measured_rows,
    }


def _measured(bench: PromptBench, name: str, count: int) -> dict[str, Any]:
    """One row, in a process that has run nothing else."""
    work, row = Workload(bench), ROWS[name]
    fewest, pairs = work.pairs(bench.counts[0]), work.pairs(count)
    row(work, fewest.take(slice(WARM_UP)))
    few = [_run(row, work, fewest) for _ in range(bench.repeats)]
    if count > bench.counts[0]:
        own = [_run(row, work, pairs)]
        few += [_run(row, work, fewest) for _ in range(bench.repeats)]
    else:
        own = few
    cost_ms = statistics.median(run.cost_ms for run in own)
    return {
        "method": name,
        "prompts": count,
        "seconds": statistics.median(run.seconds for run in own),
        "cost_ms": cost_ms,
        "ratio": cost_ms / statistics.median(run.cost_ms for run in few),
        "peak_mib": max(run.peak_mib for run in own),
        "prompts_mib": pairs.nbytes / 2**20,
    }


class _Run(NamedTuple):
    seconds: float
    cost_ms: float
    peak_mib: float


def _run(row: Row, work: Workload, pairs: PromptPairs) -> _Run:
    with measured(work.device) as cost:
        row(work, pairs)
    spent = cost.seconds if work.device == "cuda" else cost.processor_seconds
    return _Run(cost.seconds, 1000 * spent / len(pairs), cost.peak_mib)
