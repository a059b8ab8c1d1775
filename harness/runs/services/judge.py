"""Judge a circuit from a file or a stored cell on a task: the model is obtained as a cell's is.

Measured on the pairs that a cell of the task would be measured on, so that the numbers of a stored
circuit are those of its cell. On another split, or on another task in the same model (`on`), this
is the transfer of the circuit; in another model it must be a circuit of the same graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.circuits.patchable import self_check
from harness.datasets.classes import classes_of
from harness.datasets.open import open_data
from harness.datasets.pairs import TaskData
from harness.errors import HarnessError
from harness.evaluation.completeness import Learner
from harness.evaluation.judge import TESTS, Effort, judge
from harness.models.loading.tokenizer import on_model
from harness.runs.compute.background import background_of, constants_of_file
from harness.runs.compute.dictionaries import dictionaries_of
from harness.runs.compute.machine import use_runtime
from harness.runs.compute.obtain import obtain_model, require_fit
from harness.runs.compute.prepare import (
    TEST_SEED,
    Drawn,
    Prepared,
    check_lengths,
    discovery_pairs,
    prepare,
)
from harness.runs.plan import Cell, ModelSource, make_cell
from harness.runs.services.exclusion import exclusion
from harness.runs.services.lookup import NamedCircuit, evaluation_of
from harness.runs.services.overlap import overlap_with
from harness.runs.store.models import ModelStore
from harness.spec.granularity import DICTIONARIES, granularity
from harness.spec.identity import digest
from harness.spec.issues import unknown
from harness.spec.load import Loaded
from harness.spec.types import DictionarySpec, Evaluation, Method, Runtime, Task, recorded

_LABEL = Method(name="judge", title="A named circuit", kind="random")
"""A cell needs a method; the model and the pairs do not depend on it."""


@dataclass(frozen=True)
class Request:
    """What to judge, and on what. `pairs` and `seed` default to those of the task or the cell.

    `task` has the model; the prompts, the metric and the choices are those of `on`, else of
    `task`. `dictionary`: that of a circuit of features, where the task's own evaluation names none.
    """

    named: NamedCircuit
    task: Loaded[Task]
    source: ModelSource
    runtime: Runtime
    on: Loaded[Task] | None = None
    dictionary: Loaded[DictionarySpec] | None = None
    split: str = "test"
    against: tuple[NamedCircuit, ...] = ()
    tests: tuple[str, ...] = TESTS
    pairs: int | None = None
    seed: int | None = None
    rounds: int | None = None
    """Of exclusion, at most; None leaves it out."""

    @property
    def measured(self) -> Loaded[Task]:
        """The task whose prompts are used."""
        return self.on or self.task


def runtime_of(named: NamedCircuit, default: Runtime) -> Runtime:
    """The runtime of the circuit's cell, in one process; the default for a file."""
    if named.entry is None:
        return default
    return replace(Runtime(**named.entry.identity["runtime"]), processes=1, shards=1)


# ---------------------------------------------------------------- judging
def judge_circuit(
    request: Request,
    models: ModelStore,
    log: Callable[[str], None],
    effort: Effort | None = None,
) -> dict[str, Any]:
    """Everything `evaluation.judge` measures, where it was measured, and the overlaps.

    Searches for the worst knock-out on the task's discovery pairs. Raises `HarnessError` for an
    unknown split, a circuit of another graph, and all that obtaining the model may raise.
    """
    overlaps = overlap_with(request.named, request.against)
    cell, choices, prepared = prepared_for(request, models, log)
    report = judge(
        prepared.test,
        request.named.circuit,
        seed=cell.seed,
        search=prepared.discovery,
        tests=request.tests,
        effort=effort,
        learner=Learner(),
    )
    return {
        **_place(request, cell, choices),
        **report,
        "as_stored": _as_stored(request, cell, choices, report),
        "exclusion": None
        if request.rounds is None
        else exclusion(request.named, prepared, cell.seed, log, request.rounds),
        "overlap": overlaps,
    }


def prepared_for(
    request: Request, models: ModelStore, log: Callable[[str], None]
) -> tuple[Cell, Evaluation, Prepared]:
    """The cell that a request is like, its choices, and the set-ups that its circuit is run in.

    Raises as `judge_circuit`.
    """
    cell, choices = cell_of(request)
    use_runtime(cell.runtime)
    _compare_models(request, cell, log)
    _compare_dictionaries(request, cell)
    data = _data(request, cell)
    if request.split not in data.splits:
        raise HarnessError(unknown("split", request.split, data.splits))
    wanted = request.pairs or choices.test_pairs
    drawn = Drawn(
        discovery_pairs(data, choices, choices.discovery_pairs, cell.seed, at_most=True),
        data.pairs(request.split, wanted, TEST_SEED, at_most=request.pairs is None),
    )
    check_lengths(choices, drawn)
    model = obtain_model(cell, open_data(cell.task), models, log)
    require_fit(model, data)
    prepared = prepare(
        model,
        choices,
        drawn,
        device=cell.runtime.device,
        seed=cell.seed,
        classes=request.measured.spec.answers,
        background=constants_of_file(request.named.circuit.baseline, choices.ablation)
        or background_of(cell, open_data(cell.task), models),
        dictionaries=dictionaries_of(cell, model, models, log),
    )
    test, first = prepared.test, prepared.test.batches[0]
    test.check(request.named.circuit)
    self_check(test.patchable, first, test.counterfactuals.of(first))
    return cell, choices, prepared


def _as_stored(
    request: Request, cell: Cell, choices: Evaluation, report: Mapping[str, Any]
) -> dict[str, Any] | None:
    """How far measures are from those in the circuit's file: the one that is furthest.

    None where the file has none, or they were not measured on these pairs, in this model, or under
    this ablation.
    """
    circuit, point = request.named.circuit, report["circuit"]
    source = {"task": request.measured.spec.name, "model": cell.model_name}
    here = request.split == "test" and all(circuit.source.get(n) == x for n, x in source.items())
    here = here and constants_of_file(circuit.baseline, choices.ablation) is not None
    apart = {
        name: abs(point[name]["value"] - stored)
        for name, stored in circuit.measured.items()
        if name in point and point[name]["value"] is not None
    }
    if not here or not apart or request.pairs is not None:
        return None
    name = max(apart, key=lambda one: apart[one])
    return {"measure": name, "apart": apart[name]}


def _data(request: Request, cell: Cell) -> TaskData:
    """The prompts; of another task than the model's only if its tokens mean the same."""
    data = open_data(on_model(request.measured, cell.model, cell.model_folder))
    if request.on is None:
        return data
    own = open_data(cell.task)
    if classes_of(own) != classes_of(data):
        raise HarnessError(
            f"task {request.on.spec.name!r} has other `answers` than task "
            f"{request.task.spec.name!r}, whose model this is"
        )
    here, there = own.tokenizer, data.tokenizer
    if here.tokens != there.tokens or here.bos != there.bos:
        raise HarnessError(
            f"task {request.on.spec.name!r} has other tokens than task "
            f"{request.task.spec.name!r}, whose model this is: its prompts mean nothing there. "
            "Use a task with the same tokenizer and words"
        )
    return data


def cell_of(request: Request) -> tuple[Cell, Evaluation]:
    """The cell whose model and pairs are used, and the choices that circuits are run with."""
    entry, task = request.named.entry, request.measured
    seed = request.seed
    if seed is None:
        seed = 0 if entry is None else entry.seed
    choices = task.spec.evaluation
    if entry is not None and entry.task == task.spec.name:
        # A suite may change the choices of the task.
        choices = evaluation_of(entry)
    if entry is not None and entry.limit is not None and request.pairs is None:
        choices = replace(
            choices,
            test_pairs=min(choices.test_pairs, entry.limit),
            discovery_pairs=min(choices.discovery_pairs, entry.limit),
        )
    own = replace(request.task, dictionary=_dictionary(request, choices))
    cell = make_cell(own, request.source, _LABEL, "method", seed, request.runtime)
    return cell, choices


def _dictionary(request: Request, choices: Evaluation) -> Loaded[DictionarySpec] | None:
    """The dictionaries that circuits are made of under the choices."""
    if DICTIONARIES not in granularity(choices.granularity).capabilities:
        return None
    loaded = request.dictionary or request.measured.dictionary
    if loaded is None:
        raise HarnessError(
            f"{request.named.name} is a circuit of features and does not say of which "
            "dictionaries: name their spec with --dictionary"
        )
    return loaded


def _compare_dictionaries(request: Request, cell: Cell) -> None:
    """Refuse features of other dictionaries than those that the circuit was found with."""
    entry = request.named.entry
    stored = None if entry is None else entry.identity.get("dictionary")
    if cell.dictionaries is None or stored is None or digest(stored) == cell.dictionaries.id:
        return
    raise HarnessError(
        f"{request.named.name} was found with dictionaries [{digest(stored)[:12]}], and "
        f"{cell.dictionaries.name} is now [{cell.dictionaries.id[:12]}]: its spec, its runtime or "
        "its model changed. Run the cell again, or name the dictionaries with --dictionary"
    )


def _compare_models(request: Request, cell: Cell, log: Callable[[str], None]) -> None:
    """Refuse a cell whose task would now give another model; log if another one was asked for."""
    entry = request.named.entry
    if entry is None or entry.model_id == cell.model_id:
        return
    then, now = entry.model_id[:12], cell.model_id[:12]
    if entry.task == request.task.spec.name and request.source.spec == request.task.spec.model:
        raise HarnessError(
            f"{request.named.name} was found in model {then}, but task {entry.task!r} now has "
            f"model {now}: its spec, its runtime or the code changed, or a suite gave it another "
            "model. Run the task again, or name the model with --model"
        )
    log(f"the circuit was found in model {then}, not in {cell.model_name} ({now})")


def _place(request: Request, cell: Cell, choices: Evaluation) -> dict[str, Any]:
    """What was judged and on what; `same_model` is null where the circuit does not say."""
    entry = request.named.entry
    return {
        "schema_version": 2,
        "name": request.named.name,
        "source": dict(request.named.circuit.source),
        "task": request.measured.spec.name,
        "split": request.split,
        "model": cell.model_name,
        "model_id": cell.model_id,
        "same_model": None if entry is None else entry.model_id == cell.model_id,
        "choices": recorded(choices),
    }
