"""Specs built by hand and a compute function that needs no torch, for tests of what surrounds it.

Importable by worker processes too, because conftest puts this folder on sys.path. A method's
`params` say how its cells behave: `sleep` (seconds), `fail` (a message), `die` (a signal),
`die_once` (a file that is made before dying for the first time), `good` (0..1: how faithful its
circuits are), `wait_for` (a file that must appear first), `until` (a file until
which a stage goes on).
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.datasets.generators.spec import GeneratorData
from harness.metrics import curve as measures
from harness.metrics.statistics import estimate, shared_resamples
from harness.progress import stage
from harness.runs.plan import Cell, ModelSource, make_cell
from harness.runs.store import CellOutput, ModelStore
from harness.spec.load import Loaded
from harness.spec.types import (
    Architecture,
    Evaluation,
    Method,
    Runtime,
    Suite,
    Task,
    TokenizerSpec,
    Training,
    TrainModel,
    recorded,
)

COMPUTE = "support.fake_cells:compute"
LOG = "FAKE_CELLS_LOG"  # environment variable: a file that gets a line per computed cell
SIZES = (0.01, 0.1, 0.5, 1.0)
EDGES = 200
N = 40


def a_task(name: str = "toy", **changes: Any) -> Task:
    task = Task(
        name=name,
        title=f"The task {name}",
        data=GeneratorData(generator="brackets"),
        tokenizer=TokenizerSpec(kind="characters"),
        evaluation=Evaluation(
            granularity="edge",
            component="heads_qkv_mlps",
            ablation="interchange",
            positions="all",
            direction="noising",
            set="complement",
            sizes=SIZES,
            discovery_pairs=N,
            test_pairs=N,
        ),
        model=a_model(),
    )
    return replace(task, **changes)


def a_model(**training: Any) -> TrainModel:
    return TrainModel(
        architecture=Architecture(n_layers=1, n_heads=2, d_model=8),
        training=Training(objective="answer", steps=10, **training),
    )


def a_method(name: str = "eap", **params: Any) -> Method:
    return Method(name=name, title=f"The method {name}", kind=name, params=params)


def loaded(spec: Any, folder: Path = Path()) -> Loaded[Any]:
    return Loaded(
        spec=spec,
        resolved={},
        path=folder / f"{getattr(spec, 'name', 'spec')}.yaml",
        source=None,  # type: ignore[arg-type]
        folder=folder,
    )


class FakeLibrary:
    """Specs by name, without files."""

    def __init__(self, *specs: Task | Method) -> None:
        self.specs = {spec.name: spec for spec in specs}

    def task(self, ref: str) -> Loaded[Task]:
        return loaded(self.specs[ref])

    method = task


def a_suite(tasks: list[Task], methods: list[Method], **changes: Any) -> Suite:
    suite = Suite(
        name="trial",
        title="A trial",
        tasks=tuple(task.name for task in tasks),
        methods=tuple(method.name for method in methods),
        controls=(),
    )
    return replace(suite, **changes)


def a_cell(
    task: Task | None = None,
    method: Method | None = None,
    seed: int = 0,
    limit: int | None = None,
    **changes: Any,
) -> Cell:
    task = task or a_task()
    source = ModelSource(task.model, task.name, Path())
    cell = make_cell(loaded(task), source, method or a_method(), "method", seed, Runtime(), limit)
    return replace(cell, **changes)


# ---------------------------------------------------------------- computing
def compute(cell: Cell, models: ModelStore, log: Any) -> CellOutput:
    """Make up a cell, the same bytes every time; behaves as the method's params say."""
    params = cell.method.params
    _note(f"start {cell.id} {cell.model_id} {os.getpid()}")
    with models.lock(cell.model_id):
        if not models.exists(cell.model_id):
            log("training")
            _note(f"train {cell.model_id}")
            draft = models.scratch(cell.model_id) / "final"
            draft.mkdir(exist_ok=True)
            (draft / "weights").write_text(cell.model_id)
            models.publish(cell.model_id, draft)
    if "wait_for" in params:
        while not Path(params["wait_for"]).exists():
            time.sleep(0.01)
    if "until" in params:
        with stage("training", 400) as training:
            while not Path(params["until"]).exists():
                training.advance(100 if training.done == 0 else 0, "loss 3")
                time.sleep(0.05)
    time.sleep(params.get("sleep", 0))
    if "search" in params:
        with stage("search", 10, "edge") as search:
            search.advance(4)
            search.saved()
    if "fail" in params:
        raise RuntimeError(params["fail"])
    if "die_once" in params and not Path(params["die_once"]).exists():
        Path(params["die_once"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if "die" in params:
        os.kill(os.getpid(), int(params["die"]))
    if "interrupt" in params:
        with stage("training", 2000) as training:
            training.advance(600)
            training.saved()
            raise KeyboardInterrupt
    _note(f"done {cell.id}")
    return output(cell)


def _note(line: str) -> None:
    if path := os.environ.get(LOG):
        with open(path, "a") as file:
            file.write(line + "\n")


def output(cell: Cell, good: float | None = None, header: Mapping[str, Any] | None = None) -> Any:
    """A schema-true result with numbers drawn from the cell's labels (ids vary with torch)."""
    rng = np.random.default_rng([*cell.method.name.encode(), cell.seed])
    good = float(cell.method.params.get("good", 0.5)) if good is None else good
    examples = np.random.default_rng([*cell.task.spec.name.encode()])
    n = N if cell.limit is None else min(cell.limit, N)
    sizes = list(cell.task.spec.evaluation.sizes)
    whole = 3 + examples.normal(size=n)
    empty = -1 + 0.3 * examples.normal(size=n)
    share = np.array(sizes)[:, None] ** (1 - good)
    noise = 0.1 * rng.normal(size=(len(sizes), n)) * (np.array(sizes)[:, None] < 1)
    curve = empty + (whole - empty) * share + noise
    tensors = {
        "curve/metric": curve,
        "whole/metric": whole,
        "empty/metric": empty,
        "curve/kl": 1 - np.broadcast_to(share, curve.shape),
        "curve/accuracy": (curve > 0).astype(np.float64),
    }
    chosen = cell.task.spec.evaluation.measures
    tensors |= {f"curve/{name}": curve / (7 + place) for place, name in enumerate(chosen)}
    result = {**(header or cell.header()), **_numbers(cell, sizes, tensors, n)}
    circuit = {"scores": rng.normal(size=EDGES)}
    return CellOutput(
        result=result,
        tensors={"examples.safetensors": tensors, "circuit.safetensors": circuit},
        timing={
            "seconds": 1.5,
            "peak_mib": 64.0,
            "cost_fb": 1.05,
            "train_seconds": 9.0,
            "evaluation_seconds": 0.5,
            "cell_seconds": 7.5,
        },
    )


def _numbers(cell: Cell, sizes: list[float], t: dict[str, Any], n: int) -> dict[str, Any]:
    weights = shared_resamples(n)
    wanted = cell.task.spec.evaluation.discovery_pairs
    given = wanted if cell.limit is None else min(cell.limit, wanted)
    stack = np.vstack([t["curve/metric"], t["empty/metric"], t["whole/metric"]])

    chosen = cell.task.spec.evaluation.measures

    def faithful(m: Any) -> Any:
        return measures.faithfulness(m, m[..., -2:-1], m[..., -1:])

    value, draws = faithful(stack.mean(1)), faithful(weights @ stack.T)

    def mean(x: Any) -> dict[str, Any]:
        return estimate(float(x.mean()), weights @ x, n, "mean")

    def point(index: int, kl: Any, accuracy: Any) -> dict[str, Any]:
        return {
            "metric": mean(stack[index]),
            "logit_diff": mean(stack[index]),
            "prob_diff": mean(stack[index] / 10),
            "squared_error": mean(stack[index] ** 2),
            "kl": mean(kl),
            "accuracy": mean(accuracy),
            "agreement": mean(accuracy),
            "good_mass": mean(accuracy),
            "faithfulness": estimate(value[index], draws[:, index], n, "ratio_of_means"),
            **{name: mean(stack[index] / (7 + i)) for i, name in enumerate(chosen)},
        }

    realised = [round(size * EDGES) for size in sizes]
    ones = np.ones(n)
    return {
        "choices": recorded(cell.task.spec.evaluation),
        "metric": "logit_diff",
        "n_examples": n,
        "n_discovery": given,
        "n_discovery_prompts": given,
        "unit": "edges",
        "total": EDGES,
        "model_quality": {
            "test": {"accuracy": mean(ones), "good_mass": mean(ones), "loss": mean(0 * ones)}
        },
        "plain": point(-1, 0 * ones, ones),
        "whole": point(-1, 0 * ones, ones),
        "empty": point(-2, ones, 0 * ones),
        "curve": [
            {
                "size_requested": size,
                "requested": round(size * EDGES),
                "target": None,
                "size": realised[i],
                "counts": {"edges": realised[i]},
                "sparsity": 1 - realised[i] / EDGES,
                **point(i, t["curve/kl"][i], t["curve/accuracy"][i]),
            }
            for i, size in enumerate(sizes)
        ],
        "summary": {
            **{
                name: estimate(
                    float(area(sizes, value[:-2])), area(sizes, draws[:, :-2]), n, "area"
                )
                for name, area in measures.AREAS.items()
            },
            "size_at": "grid",
            **{
                f"size_at_{level}": measures.size_reaching(float(level), realised, value[:-2])
                for level in ("0.85", "0.95", "0.99")
            },
        },
        "ground_truth": None,
        "notes": {},
        "data_digest": {
            "discovery": hashlib.sha256(b"discovery").hexdigest(),
            "test": hashlib.sha256(f"{cell.task.spec.name} {n}".encode()).hexdigest(),
        },
    }


SIGKILL = int(signal.SIGKILL)
