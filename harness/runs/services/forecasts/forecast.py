"""How long the cells of a plan will take, and how much memory: measured before, else modelled.

A cell whose like is stored (same task, evaluation, model and method) is expected to take what that
took. Else its method's cost in plain forward+backwards (`MethodInfo.passes`) is multiplied by the
time that one takes, by a rough model of kernels and multiply-adds. Factors between the model and
this machine are medians over everything that is stored. Imports no torch.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import HarnessError, StoreCorrupt
from harness.runs.plan import Cell
from harness.runs.plan.dictionaries import PlannedDictionaries
from harness.runs.services.forecasts.extent import (
    CodedSites,
    Shape,
    coded_sites,
    dictionary_seconds,
    pass_seconds,
    passes_of,
    shape_of,
)
from harness.runs.store import CellStore, ModelStore
from harness.runs.store.record import PlannedCell, entries_of, runs_root
from harness.runs.store.sealed import SealedFolder
from harness.spec.identity import identity_fields
from harness.spec.types import TrainModel

MEASURED, SCALED, ROUGH = 1.3, 1.8, 3.0
"""By what factor a forecast may be wrong: of a cell like a stored one, of a cell whose machine and
method are known from other cells, and of one about which nothing is stored."""

OVERHEAD_SECONDS = 1.0
"""Of each cell: reading the model, checks, the model's own quality, writing."""

PROCESS_SECONDS = 4.0
"""Of each process: importing torch."""

PROCESS_MIB = 300.0
"""Of each process, before it holds a model."""

PASS_MIB = 300.0
"""Of the runs of many masks that are made together, at most (`evaluation.curve.BUFFER`)."""


class Guess(NamedTuple):
    """Seconds, the factor by which they may be wrong, and MiB of memory."""

    seconds: float
    factor: float
    mib: float


@dataclass(frozen=True)
class Forecast:
    """Of the cells that are to be computed: guesses by id, those of models and dictionaries to
    train, and the ids about which nothing can be said (their method, or their model, does not tell
    its cost).
    """

    cells: Mapping[str, Guess]
    trainings: Mapping[str, Guess]  # by id of the model
    unknown: tuple[str, ...]
    dictionaries: Mapping[str, Guess] = field(default_factory=dict)  # by their id

    @property
    def seconds(self) -> float:
        """Of everything, one cell after the other."""
        every = self._every
        return sum(one.seconds for one in every) + (PROCESS_SECONDS if every else 0.0)

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which seconds it will be."""
        every = self._every
        fixed = PROCESS_SECONDS if every else 0.0
        low = sum(one.seconds / one.factor for one in every)
        return low + fixed, sum(one.seconds * one.factor for one in every) + fixed

    @property
    def mib(self) -> float:
        """Memory of one process, at most."""
        return max((one.mib for one in self._every), default=0.0) + PROCESS_MIB

    @property
    def _every(self) -> list[Guess]:
        parts = (self.cells, self.trainings, self.dictionaries)
        return [one for part in parts for one in part.values()]

    def expected(self, cells: Iterable[Cell]) -> dict[str, float]:
        """Seconds by id; the first cell of each model trains it, as that of each dictionary."""
        seconds, untrained = {}, {**self.trainings, **self.dictionaries}
        for cell in cells:
            if cell.id in self.cells:
                codes = None if cell.dictionaries is None else cell.dictionaries.id
                trained = [untrained.pop(one, None) for one in (cell.model_id, codes) if one]
                seconds[cell.id] = self.cells[cell.id].seconds + sum(
                    one.seconds for one in trained if one is not None
                )
        return seconds


def forecast(cells: Iterable[Cell], results: Path, models: ModelStore) -> Forecast:
    """What computing these cells will take, from the runs in a results folder."""
    history, shapes = _History.of(results, models), _Shapes()
    guesses: dict[str, Guess] = {}
    trainings: dict[str, Guess] = {}
    dictionaries: dict[str, Guess] = {}
    unknown = []
    for cell in cells:
        shape = shapes.of(cell)
        guess = history.like(cell) or _modelled(cell, shape, history)
        if guess is None:
            unknown.append(cell.id)
        else:
            guesses[cell.id] = guess
        if cell.trains and not models.exists(cell.model_id):
            assert isinstance(cell.model, TrainModel)
            trainings.setdefault(cell.model_id, _training(cell.model, shape, history))
        codes = cell.dictionaries
        if codes is not None and codes.trains and not models.dictionaries.exists(codes.id):
            dictionaries.setdefault(codes.id, _of_dictionaries(codes, shape, history))
    return Forecast(guesses, trainings, tuple(unknown), dictionaries)


class _Shapes:
    """Shapes of models by the task and the model, each read once; None where it is not known."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str], Shape | None] = {}

    def of(self, cell: Cell) -> Shape | None:
        key = cell.task.spec.name, cell.model_id
        if key not in self._read:
            try:
                self._read[key] = shape_of(cell)
            except Exception:
                # Whatever is wrong with it, also in a plug-in: computing the cell will say so.
                self._read[key] = None
        return self._read[key]


# ---------------------------------------------------------------- guesses
def _modelled(cell: Cell, shape: Shape | None, history: _History) -> Guess | None:
    passes = passes_of(cell, shape)
    if shape is None or passes is None:
        return None
    choices, pairs = cell.task.spec.evaluation, _pairs(cell)
    kind = cell.method.kind
    plain = pass_seconds(shape, pairs, coded_sites(cell, shape)) * history.machine
    search = passes * plain * history.methods.get(kind, 1.0)
    # Circuits of the grid, and as many again while sizes are searched for; a forward is a third.
    circuits = 2 * (len(choices.sizes or choices.counts or choices.targets or ()) + 2)
    tested = min(choices.test_pairs, cell.limit or choices.test_pairs)
    measured = circuits * plain * tested / pairs / 2
    factor = SCALED if history.machine_measured and kind in history.methods else ROUGH
    held = shape.weights_mib(cell.runtime.shards)
    return Guess(search + measured + OVERHEAD_SECONDS, factor, held + PASS_MIB)


def _training(model: TrainModel, shape: Shape | None, history: _History) -> Guess:
    """At most: a training that reaches its target ends before its last step."""
    spec = model.training
    if shape is None:
        return Guess(60.0, ROUGH, PASS_MIB)
    step = pass_seconds(shape, spec.batch_size) * history.training
    factor = SCALED if history.training_measured else ROUGH
    return Guess(spec.steps * step, factor, 4 * shape.weights_mib())


def _of_dictionaries(planned: PlannedDictionaries, shape: Shape | None, history: _History) -> Guess:
    """At most, as of a model's training."""
    if shape is None:
        return Guess(60.0, ROUGH, PASS_MIB)
    spec = identity_fields(planned.loaded.spec)
    seconds = dictionary_seconds(shape, spec) * history.training
    coded = CodedSites.of(spec, shape)
    held = 0.0 if coded is None else 4 * coded.weights * 4 / 2**20
    return Guess(seconds, ROUGH, shape.weights_mib() + held + PASS_MIB)


def _pairs(cell: Cell) -> int:
    return min(cell.task.spec.evaluation.discovery_pairs, cell.limit or 10**9)


# ---------------------------------------------------------------- what is stored
@dataclass
class _History:
    """What earlier cells took. Factors multiply the model's times to give this machine's."""

    seconds: dict[tuple[Any, ...], list[Guess]] = field(default_factory=lambda: defaultdict(list))
    methods: dict[str, float] = field(default_factory=dict)
    machine: float = 1.0
    machine_measured: bool = False
    training: float = 1.0
    training_measured: bool = False

    @classmethod
    def of(cls, results: Path, models: ModelStore) -> _History:
        """Read all timings of a results folder; what cannot be read counts as absent."""
        history = cls()
        plain, methods = [], defaultdict(list)
        for folder in runs_root(results):
            store = CellStore(folder)
            for entry in _entries(folder):
                timing = _json(store.read(entry.id), "timing.json") if store.has(entry.id) else None
                if timing is None:
                    continue
                history.seconds[_place_of(entry)].append(_taken(timing))
                shape = _stored_shape(models, entry.model_id)
                if shape is None or not timing.get("cost_fb"):
                    continue
                pairs = entry.identity["task"]["evaluation"]["discovery_pairs"]
                pairs = min(pairs, entry.limit or pairs)
                # Forecasts are of wall time; timings of version 1 knew no other.
                seconds = timing["seconds"] / (timing.get("cost_fb_wall") or timing["cost_fb"])
                uncoded = pass_seconds(shape, pairs)  # what costs are in: without dictionaries
                plain.append(seconds / uncoded)
                passes = passes_of(entry, shape)
                if passes:
                    kind = entry.identity["method"]["kind"]
                    with_codes = pass_seconds(shape, pairs, coded_sites(entry, shape))
                    methods[kind].append(timing["cost_fb"] / passes * uncoded / with_codes)
        if plain:
            history.machine, history.machine_measured = statistics.median(plain), True
        history.methods = {kind: statistics.median(x) for kind, x in methods.items()}
        steps = [x for x in (_step_factor(models, one) for one in models.ids()) if x is not None]
        if steps:
            history.training, history.training_measured = statistics.median(steps), True
        return history

    def like(self, cell: Cell) -> Guess | None:
        """The mean of stored cells that differ in nothing but seed and version."""
        stored = self.seconds.get(_place_of(cell))
        if not stored:
            return None
        seconds = [one.seconds for one in stored]
        return Guess(statistics.fmean(seconds), MEASURED, max(one.mib for one in stored))


def _place_of(one: Cell | PlannedCell) -> tuple[Any, ...]:
    labels = one.labels() if isinstance(one, Cell) else vars(one)
    return tuple(labels[name] for name in ("task", "variant", "model", "method", "limit"))


def _taken(timing: Mapping[str, Any]) -> Guess:
    """Of a stored cell; older ones did not note the whole time."""
    noted = timing.get("seconds", 0.0) + timing.get("evaluation_seconds", 0.0)
    seconds = timing.get("cell_seconds", noted + OVERHEAD_SECONDS)
    return Guess(float(seconds), MEASURED, float(timing.get("peak_mib") or 0.0) + PASS_MIB)


def _entries(folder: Path) -> list[PlannedCell]:
    try:
        return entries_of(folder)
    except (HarnessError, OSError):
        return []  # the run's own commands report it


def _json(folder: SealedFolder, name: str) -> Any:
    """A stored file, or None if it is not what was published."""
    try:
        return folder.json(name)
    except StoreCorrupt:
        return None


def _stored_shape(models: ModelStore, model_id: str) -> Shape | None:
    config = _json(models.read(model_id), "config.json")
    return None if config is None else Shape.of_config(config)


def _step_factor(models: ModelStore, model_id: str) -> float | None:
    """Measured over modelled seconds of a step of a stored model's training."""
    folder = models.read(model_id)
    timing, note = _json(folder, "timing.json"), _json(folder, "training.json")
    shape = _stored_shape(models, model_id)
    if not (timing and note and note.get("history") and shape):
        return None
    batch = note["identity"].get("training", {}).get("batch_size")
    steps = note["history"][-1]["step"]
    if not batch or not steps:
        return None
    return float(timing["seconds"] / steps) / pass_seconds(shape, int(batch))
