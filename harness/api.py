"""The harness from Python: what `import harness` gives.

    import harness

    task = harness.load_task("ioi")
    model = harness.load_model(task)
    circuit = harness.discover(task, model, "eap", size=0.05)
    print(harness.evaluate(circuit, task, model))
    print(circuit.strongest(10))

Names here do not move; modules inside the package may. Plug-ins import from `harness` alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from harness.circuits.baseline import Baseline
from harness.circuits.circuit import Circuit
from harness.circuits.patchable import baseline_of, self_check
from harness.circuits.select import number_of_elements
from harness.datasets.files import pairs_of_rows
from harness.datasets.open import open_data
from harness.datasets.pairs import PromptPairs, TaskData
from harness.datasets.tokenizers import needs_model
from harness.discovery.problem import Problem
from harness.discovery.refusals import method_problem
from harness.discovery.registry import make_method
from harness.discovery.sizing import checked, circuit_of, ranking_for
from harness.errors import HarnessError
from harness.evaluation.curve import evaluate_circuits
from harness.evaluation.summary import Summary
from harness.models.loading.tokenizer import on_model
from harness.models.transformer import Transformer
from harness.runs.compute.background import background_of, constants_of_file
from harness.runs.compute.dictionaries import dictionaries_of
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import obtain_model
from harness.runs.compute.prepare import Drawn, Prepared, check_lengths, draw, prepare
from harness.runs.plan import Cell, ModelSource, make_cell
from harness.runs.store.record import find_run, load_cells, model_store, record
from harness.spec.build import build, normalise
from harness.spec.key import plain
from harness.spec.load import Library, Loaded
from harness.spec.schema import check
from harness.spec.types import HOW_LARGE, Evaluation, Method, Runtime, Task
from harness.spec.yaml.source import Source, parse_text

if TYPE_CHECKING:
    import polars

    from harness.runs.executors.session import RunSummary

Log = Callable[[str], None]

_RESULTS = Path("results")
_UNNAMED = Method(name="api", title="Called from Python", kind="random")
"""A cell needs a method; its model and its pairs do not depend on it."""


@dataclass(frozen=True)
class OpenTask:
    """A task from its YAML file, and its data.

    `model` is the model it is run with, by name or path; None is the task's own.
    """

    loaded: Loaded[Task]
    library: Library
    model: str | None = None

    @property
    def name(self) -> str:
        """The task's name."""
        return self.loaded.spec.name

    @property
    def evaluation(self) -> Evaluation:
        """The choices that circuits are measured under."""
        return self.loaded.spec.evaluation

    @cached_property
    def data(self) -> TaskData:
        """Prompt pairs and training batches in disjoint splits."""
        source = _source(self, self.model)
        return open_data(on_model(self.loaded, source.spec, source.folder))

    def with_evaluation(self, **changes: Any) -> OpenTask:
        """The same task under other choices: `task.with_evaluation(ablation="mean")`.

        Raises `HarnessError` for choices that a task's file could not make.
        """
        without = HOW_LARGE if changes.keys() & set(HOW_LARGE) else ()
        source = _changed(self.loaded.source, "task", "evaluation", changes, without)
        evaluation = build(Evaluation, source.data["evaluation"])
        spec = replace(self.loaded.spec, evaluation=evaluation)
        resolved = {**self.loaded.resolved, "evaluation": plain(evaluation)}
        loaded = replace(self.loaded, spec=spec, resolved=resolved, source=source)
        return replace(self, loaded=loaded)


@dataclass(frozen=True)
class Measured:
    """An estimate over prompt pairs with its 95 % bootstrap interval; None where not defined."""

    value: float | None
    low: float | None
    high: float | None

    def __repr__(self) -> str:
        if self.value is None:
            return "undefined"
        interval = "" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.value:.3f}{interval}"


# ---------------------------------------------------------------- tasks, models, prompts
def load_task(
    name: str, *, model: str | None = None, include: Sequence[Path | str] = ()
) -> OpenTask:
    """A task by name or by the path of its YAML file; `include` are folders to look in first.

    `model`: the spec of the model it is run with, by name or path, if that is not its own; a task
    with `tokenizer: {kind: model}` has its vocabulary.

    Raises `harness.HarnessError` (`SpecError` with file, line and column) for a task that is not
    there or not valid.
    """
    library = Library([Path(folder) for folder in include])
    return OpenTask(library.task(name), library, model)


def load_model(
    task: OpenTask,
    model: str | None = None,
    *,
    results: Path | str = _RESULTS,
    device: Literal["cpu", "cuda"] = "cpu",
    log: Log | None = None,
) -> Transformer:
    """The task's model, or another spec's by name or path; trained first where it has to be.

    Trained models are kept below `results`, where `harness run` finds them too. Frozen.
    """
    if model not in (None, task.model) and needs_model(task.loaded.spec.tokenizer):
        raise HarnessError(
            f"task {task.name!r} has the tokenizer of its model: name the model in load_task"
        )
    cell = _cell(task, model, device=device)
    threads = torch.get_num_threads()
    use_runtime(cell.runtime)  # the threads are part of what a model is kept under
    try:
        return obtain_model(cell, task.data, model_store(Path(results)), log or _silent)
    finally:
        torch.set_num_threads(threads)


def prompt_pairs(
    task: OpenTask,
    rows: Iterable[Mapping[str, Any]] | None = None,
    *,
    split: str = "test",
    n: int | None = None,
    seed: int = 0,
) -> PromptPairs:
    """Prompt pairs in the task's tokens: `n` of a split, or your own `rows`.

    A row has `clean` and `corrupted` (texts of as many tokens), `good` and `bad` (an answer, or
    a list of them), and `position` where not the last token is read. Raises
    `harness.HarnessError` that names each row that cannot be used, the first being row 0.
    """
    if rows is not None:
        rows = list(rows)
        if not rows:
            raise HarnessError("no rows: there is nothing to measure on")
        return pairs_of_rows(rows, task.data)
    wanted = task.evaluation.test_pairs if n is None else n
    return task.data.pairs(split, wanted, seed, at_most=n is None)


# ---------------------------------------------------------------- circuits
def discover(
    task: OpenTask,
    model: Transformer,
    method: str = "eap",
    *,
    size: float | int = 0.05,
    seed: int = 0,
    **params: Any,
) -> Circuit:
    """A circuit that a method finds on the task's discovery pairs, with scores of all elements.

    `method`: a spec by name or path; `params` change its parameters. `size`: a share of all
    elements (float), or a number of them (int). Raises `harness.HarnessError` for a method, params
    or a size that the task does not allow.
    """
    spec = _method(task, method, params)
    post_norms = model.config.post_norms
    if refusal := method_problem(spec.kind, spec.params, task.evaluation, post_norms):
        raise HarnessError(refusal)
    prepared = _prepared(task, model, seed)
    setup = prepared.discovery
    total = len(setup.space)
    n = number_of_elements(size, total)
    problem = Problem(
        setup.patchable,
        setup.batches,
        setup.counterfactuals,
        setup.choices.metric,
        torch.Generator().manual_seed(seed),
        (n,),
    )
    discovery = make_method(spec.kind, spec.params).discover(problem)
    discovery = checked(discovery, setup.space, spec.name)
    kept = circuit_of(discovery, setup.space, n, spec.selection, setup.choices.ablation)
    source = {"task": task.name, "method": spec.name, "seed": str(seed)}
    scores = ranking_for(discovery, n)
    baseline = baseline_of(setup.counterfactuals)
    return Circuit(setup.space, kept, scores, model.config.d_model, source, baseline)


def evaluate(
    circuit: Circuit,
    task: OpenTask,
    model: Transformer,
    pairs: PromptPairs | None = None,
    *,
    seed: int = 0,
) -> dict[str, Measured]:
    """Faithfulness and the other measures of a circuit, each with its interval.

    On the task's test pairs, or on `pairs`. Raises `harness.HarnessError` for a circuit of another
    model.
    """
    setup = _prepared(task, model, seed, pairs, circuit.baseline).test
    setup.check(circuit)
    everything = torch.ones(len(setup.space), dtype=torch.bool)
    examples = evaluate_circuits(setup, [circuit.kept, ~everything, everything])
    point = Summary(examples, ()).point(0)
    return {
        name: Measured(one["value"], one["low"], one["high"])
        for name, one in sorted(point.items(), key=lambda item: item[0] != "faithfulness")
    }


# ---------------------------------------------------------------- runs
def run(
    suite: str = "quickstart",
    *,
    results: Path | str = _RESULTS,
    jobs: int = 1,
    include: Sequence[Path | str] = (),
) -> RunSummary:
    """Compute every cell of a suite that is not stored yet, as `harness run` does."""
    from harness.runs.executors.local import LocalExecutor
    from harness.runs.executors.session import Settings
    from harness.runs.plan import expand
    from harness.runs.store import CellStore

    library = Library([Path(folder) for folder in include])
    plan = expand(library.suite(suite), library)
    store = CellStore(Path(results) / plan.name)
    record(store.folder, plan)
    return LocalExecutor(jobs).run(plan, store, Settings(models=model_store(Path(results))))


def results(run: str = "quickstart", *, results: Path | str = _RESULTS) -> polars.DataFrame:
    """All numbers of a run, a row per cell and circuit size (`harness help read-the-numbers`)."""
    from harness.reports.rows import frame

    return frame(load_cells(find_run(Path(results), run)))


# ---------------------------------------------------------------- inside
def _cell(task: OpenTask, model: str | None, *, device: Literal["cpu", "cuda"] = "cpu") -> Cell:
    source = _source(task, model or task.model)
    return make_cell(task.loaded, source, _UNNAMED, "method", 0, Runtime(device=device))


def _source(task: OpenTask, model: str | None) -> ModelSource:
    """The model of a name or path, or the task's own."""
    if model is None:
        return ModelSource.of(task.loaded)
    return ModelSource.named(task.library.model(model), model)


def _prepared(
    task: OpenTask,
    model: Transformer,
    seed: int,
    pairs: PromptPairs | None = None,
    baseline: Baseline | None = None,
) -> Prepared:
    """As a cell of the task and seed; `pairs` and `baseline` in place of its own."""
    cell = replace(_cell(task, None), seed=seed)
    drawn, device = draw(cell, task.data), model.embedding.device.type
    if pairs is not None:
        if (longest := int(pairs.lengths.max())) > (context := model.config.n_ctx):
            raise HarnessError(f"prompts of {longest} tokens; the model takes {context} at most")
        drawn = Drawn(drawn.discovery, pairs)
        check_lengths(task.evaluation, drawn)
    codes = dictionaries_of(cell, model, model_store(Path(_RESULTS)), _silent, train=False)
    background = constants_of_file(baseline, task.evaluation.ablation)
    prepared = prepare(
        model,
        task.evaluation,
        drawn,
        device=device,
        seed=seed,
        classes=task.loaded.spec.answers,
        background=background or background_of(cell, task.data, is_own_model=False),
        dictionaries=codes,
    )
    test, first = prepared.test, prepared.test.batches[0]
    self_check(test.patchable, first, test.counterfactuals.of(first))
    return prepared


def _method(task: OpenTask, name: str, params: Mapping[str, Any]) -> Method:
    source = _changed(task.library.method(name).source, "method", "params", params)
    return build(Method, normalise(source.data, "method"))


def _changed(
    source: Source,
    kind: Literal["task", "method"],
    key: str,
    changes: Mapping[str, Any],
    without: Iterable[str] = (),
) -> Source:
    """A spec with changes below one key, less what is there called `without`.

    Raises `HarnessError` if the spec is not valid then.
    """
    own = {name: value for name, value in source.data.get(key, {}).items() if name not in without}
    data = {**source.data, key: {**own, **changes}}
    changed = parse_text(json.dumps(data, ensure_ascii=False, default=repr), source.path)
    if issues := check(changed, kind):
        raise HarnessError("\n".join(f"{issue.where}: {issue.message}" for issue in issues))
    return changed


def _silent(_text: str) -> None:
    """Log nothing."""
