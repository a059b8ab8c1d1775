"""Judge a circuit from a file or a stored cell on a task: the model is obtained as a cell's is.

Measured on the pairs that a cell of the task would be measured on, so that the numbers of a stored
circuit are those of its cell. On another task or split than the circuit was found on, this is the
transfer of the circuit; its graph must be that of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from harness.circuits.circuit import Circuit
from harness.circuits.formats import load_circuit
from harness.circuits.patching import PatchedModel, self_check
from harness.datasets.open import open_data
from harness.errors import HarnessError, NotFound
from harness.evaluation.completeness import Learner
from harness.evaluation.judge import TESTS, Effort, judge
from harness.evaluation.knockout import check_circuit
from harness.evaluation.overlap import edge_consistency, edge_overlap, node_overlap
from harness.runs.models import ModelStore
from harness.runs.obtain import obtain_model
from harness.runs.plan import Cell, ModelSource, make_cell
from harness.runs.record import Entry, entries_of, find_run, runs_root
from harness.runs.setting import (
    TEST_SEED,
    Drawn,
    batched,
    check_lengths,
    graph_of,
    references_of,
)
from harness.runs.store import CellStore
from harness.spec.issues import unknown
from harness.spec.load import Loaded
from harness.spec.types import CHOICES, Evaluation, Method, Runtime, Task

_LABEL = Method(name="judge", title="A circuit that is given", kind="random")
"""A cell needs a method; the model and the pairs do not depend on it."""


@dataclass(frozen=True)
class Given:
    """A circuit, what the user called it, and the cell it is from, if it is from one."""

    circuit: Circuit
    name: str
    entry: Entry | None = None


@dataclass(frozen=True)
class Request:
    """What is to be judged on what. `pairs` and `seed` None: as the task or the cell says."""

    given: Given
    task: Loaded[Task]
    source: ModelSource
    runtime: Runtime
    split: str = "test"
    against: tuple[Given, ...] = ()
    tests: tuple[str, ...] = TESTS
    pairs: int | None = None
    seed: int | None = None


# ---------------------------------------------------------------- what was found
def find_circuit(results: Path, reference: str) -> Given:
    """A circuit by file, by the beginning of a cell's id, or by `run:cell`.

    Raises `NotFound` if nothing answers to it, `HarnessError` for a broken file or if several do,
    `StoreCorrupt` if the cell is not what was published.
    """
    if Path(reference).is_file():
        return Given(load_circuit(Path(reference)), reference)
    run, _, cell = reference.rpartition(":")
    folders = [find_run(results, run)] if run else runs_root(results)
    found = {
        store_id: (folder, store_id)
        for folder in folders
        for store_id in CellStore(folder).ids()
        if cell and store_id.startswith(cell)
    }
    if not found:
        raise NotFound(
            f"{reference!r} is neither a circuit file nor a finished cell of {results}; "
            "`harness status` lists cells"
        )
    if len(found) > 1:
        raise HarnessError(f"{reference!r} begins {len(found)} ids: {', '.join(sorted(found))}")
    folder, cell_id = next(iter(found.values()))
    return _stored(folder, cell_id)


def _stored(folder: Path, cell_id: str) -> Given:
    store = CellStore(folder)
    store.verify(cell_id)
    circuit = load_circuit(store.cells / cell_id / "circuit.safetensors")
    entry = next((entry for entry in entries_of(folder) if entry.id == cell_id), None)
    return Given(circuit, f"{folder.name}:{cell_id[:12]}", entry)


def runtime_of(given: Given, default: Runtime) -> Runtime:
    """The runtime of the circuit's cell; the default for a file."""
    return default if given.entry is None else Runtime(**given.entry.identity["runtime"])


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
    cell, choices = _cell(request)
    torch.set_num_threads(cell.runtime.threads)
    if cell.runtime.device == "cuda" and not torch.cuda.is_available():
        raise HarnessError("device is cuda, but torch sees no CUDA device here")
    overlaps = _overlaps(request.given, request.against)
    _compare_models(request, cell, log)
    data = open_data(cell.task)
    if request.split not in data.splits:
        raise HarnessError(unknown("split", request.split, data.splits))
    wanted = request.pairs or choices.test_pairs
    drawn = Drawn(
        data.pairs("train", choices.discovery_pairs, cell.seed, at_most=True),
        data.pairs(request.split, wanted, TEST_SEED, at_most=request.pairs is None),
    )
    check_lengths(choices, drawn)
    model = obtain_model(cell, data, models, log)
    patched = PatchedModel(model, graph_of(model.config, choices, drawn))
    check_circuit(request.given.circuit, patched)

    test = batched(patched, drawn.test, cell.runtime.device, TEST_SEED)
    discovery = batched(patched, drawn.discovery, cell.runtime.device, cell.seed)
    references = references_of(patched, choices, discovery)
    self_check(patched, test[0], references.of(test[0]))
    return {
        **_place(request, cell, choices),
        **judge(
            patched,
            test,
            references,
            request.given.circuit,
            choices,
            seed=cell.seed,
            search=discovery,
            tests=request.tests,
            effort=effort,
            learner=Learner(),
        ),
        "overlap": overlaps,
    }


def _cell(request: Request) -> tuple[Cell, Evaluation]:
    """The cell whose model and pairs are used, and the choices that circuits are run with."""
    entry, task = request.given.entry, request.task
    seed = request.seed
    if seed is None:
        seed = 0 if entry is None else entry.seed
    choices = task.spec.evaluation
    if entry is not None and entry.task == task.spec.name:
        # A suite may have changed the task's choices.
        stored = entry.identity["task"]["evaluation"]
        choices = Evaluation(**{**stored, "sizes": tuple(stored["sizes"])})
    if entry is not None and entry.limit is not None and request.pairs is None:
        choices = replace(
            choices,
            test_pairs=min(choices.test_pairs, entry.limit),
            discovery_pairs=min(choices.discovery_pairs, entry.limit),
        )
    cell = make_cell(task, request.source, _LABEL, "method", seed, request.runtime)
    return cell, choices


def _compare_models(request: Request, cell: Cell, log: Callable[[str], None]) -> None:
    """Refuse a cell whose own task would now make another model; say so where another is asked."""
    entry = request.given.entry
    if entry is None or entry.model_id == cell.model_id:
        return
    then, now = entry.model_id[:12], cell.model_id[:12]
    if entry.task == request.task.spec.name and request.source.spec == request.task.spec.model:
        raise HarnessError(
            f"{request.given.name} was found in model {then}, but task {entry.task!r} now has "
            f"model {now}: its spec, its runtime or the code changed, or a suite gave it another "
            "model. Run the task again, or name the model with --model"
        )
    log(f"the circuit was found in model {then}, not in {cell.model_name} ({now})")


def _place(request: Request, cell: Cell, choices: Evaluation) -> dict[str, Any]:
    """What was judged and on what; `same_model` is null where the circuit does not say."""
    entry = request.given.entry
    return {
        "schema_version": 1,
        "name": request.given.name,
        "source": dict(request.given.circuit.source),
        "task": cell.task.spec.name,
        "split": request.split,
        "model": cell.model_name,
        "model_id": cell.model_id,
        "same_model": None if entry is None else entry.model_id == cell.model_id,
        "choices": {name: getattr(choices, name) for name in CHOICES},
    }


def _overlaps(given: Given, others: Sequence[Given]) -> dict[str, Any] | None:
    """Overlap with each other circuit, and pairwise consistency of all; None without others."""
    if not others:
        return None
    circuits = [given.circuit, *(other.circuit for other in others)]
    return {
        "with": [
            {
                "name": other.name,
                "edges": _plain(edge_overlap(given.circuit, other.circuit)),
                "nodes": _plain(node_overlap(given.circuit, other.circuit)),
            }
            for other in others
        ],
        "consistency": _plain(edge_consistency(circuits)),
    }


def _plain(found: Any) -> dict[str, Any]:
    """A dataclass as JSON data: what is not defined is null."""
    return {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in asdict(found).items()
    }
