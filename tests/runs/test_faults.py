"""Every call of a run that writes, forces to disk, renames, opens or locks fails once.

As SQLite is tested: call n fails, for every n there is, with an error and with a kill; then the
same command runs again. The run trains a model, learns masks, searches with ACDC, compiles a
program and verifies its true circuit, with checkpoints at every step. Drawing of data and measuring
of circuits are done once and remembered: what is under test is what reaches the disk.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from support.fake_cells import a_model, a_task, loaded
from support.faults import ERRORS, Faults

from harness.datasets.generators.spec import GeneratorData
from harness.discovery.acdc import resume as acdc_resume
from harness.discovery.masks import training as mask_training
from harness.models.training import trainer as train
from harness.runs.compute import cell as cell_module
from harness.runs.compute import ground_truth, obtain
from harness.runs.compute.circuits import Ladder
from harness.runs.compute.prepare import prepare
from harness.runs.executors.local import LocalExecutor
from harness.runs.executors.session import RunSummary, Settings
from harness.runs.plan import Cell, ModelSource, Plan, make_cell
from harness.runs.store import CellStore
from harness.runs.store.cells import result_problem
from harness.runs.store.models import ModelStore
from harness.runs.store.record import load_cells, record
from harness.spec.load import Library
from harness.spec.types import CompileModel, Method, Runtime

USUAL = Runtime(threads=1)


def a_method(kind: str, **params: Any) -> Method:
    return Method(name=kind, title=kind, kind=kind, params=params)


def trained(method: Method) -> Cell:
    data = GeneratorData(
        generator="brackets", params={"max_depth": 3, "lengths": [7], "min_distance": 2}
    )
    task = a_task(data=data)
    few = {"sizes": (0.5, 1.0), "discovery_pairs": 4, "test_pairs": 4}
    task = replace(task, evaluation=replace(task.evaluation, **few))
    training = replace(a_model().training, steps=2, batch_size=4, evaluate_every=2)
    source = ModelSource(replace(a_model(), training=training), "small", Path())
    return make_cell(loaded(task), source, method, "method", 0, USUAL)


def compiled(method: Method) -> Cell:
    task = Library().task("xproportion")
    few = {"sizes": (0.5, 1.0), "discovery_pairs": 4, "test_pairs": 4}
    task = replace(task, spec=replace(task.spec, evaluation=replace(task.spec.evaluation, **few)))
    source = ModelSource(CompileModel(), "compiled", task.folder)
    return make_cell(task, source, method, "method", 0, USUAL)


CELLS = (
    trained(a_method("edge_pruning", steps=2, batch_size=4, sparsities=[0.5])),
    trained(a_method("acdc", thresholds=[0.01])),
    compiled(a_method("random")),
)


# ---------------------------------------------------------------- arithmetic that is done once
def remembered(function: Callable[..., Any], key: Callable[..., object]) -> Callable[..., Any]:
    values: dict[object, Any] = {}

    def call(*args: Any, **kwargs: Any) -> Any:
        name = key(*args, **kwargs)
        if name not in values:
            values[name] = function(*args, **kwargs)
        return values[name]

    return call


def of_scores(ladder: Ladder, *_: Any) -> object:
    return ladder.setup.space.unit, ladder.total, ladder.discovery.scores.numpy().tobytes()


def weights(folder: Path, **_: Any) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def _memoised() -> Iterator[None]:
    def opened(task: Any) -> Any:
        data = real_open(task)
        data.pairs = cache(data.pairs)
        data.training_batch = cache(data.training_batch)
        return data

    real_open = cell_module.open_data
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cell_module, "open_data", remembered(opened, lambda task: task.spec.name))
        for name in ("measure", "sizes_at"):
            patch.setattr(Ladder, name, remembered(getattr(Ladder, name), of_scores))
        patch.setattr(
            ground_truth,
            "verify",
            remembered(ground_truth.verify, lambda model, *_: len(model.space)),
        )
        patch.setattr(
            cell_module, "_result", remembered(cell_module._result, lambda cell, *_: cell.id)
        )
        patch.setattr(cell_module, "self_check", lambda *_: 0.0)
        patch.setattr(obtain, "load_model", remembered(obtain.load_model, weights))
        patch.setattr(
            cell_module,
            "prepare",
            remembered(prepare, lambda model, choices, *_, **__: (id(model), choices.metric)),
        )
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(
            "harness.runs.store.cells.result_problem",
            remembered(result_problem, lambda result: json.dumps(result, sort_keys=True)),
        )
        patch.setattr(cell_module, "plain_times", remembered(cell_module.plain_times, lambda *_: 0))
        patch.setattr(cell_module, "QUALITY_PAIRS", 4)
        patch.setattr(obtain, "VALIDATION_PAIRS", 4)
        patch.setattr(train, "CHECKPOINT_SECONDS", -1.0)  # after every step
        patch.setattr(mask_training, "SAVE_SECONDS", -1.0)
        patch.setattr(acdc_resume, "SAVE_SECONDS", 1e9)  # at the end alone: there are many readers
        yield


# ---------------------------------------------------------------- a run and what it must leave
class World:
    """A results folder in which one cell after the other is computed, and what must come of it.

    `stages[k]` is a copy of the folder after k cells, `calls[k]` the calls that cell k makes.
    """

    def __init__(self, root: Path) -> None:
        self.here = root / "here"
        self.here.mkdir()
        self.store, self.models = CellStore(self.here / "run"), ModelStore(self.here / "models")
        self.faults = Faults(self.here)
        self.stages, self.calls = [root / "0"], []
        shutil.copytree(self.here, self.stages[0])
        for place in range(len(CELLS)):
            assert self.run(place).exit_code == 0  # what is memoised is read from no file again
            self.restore(place)
            self.faults.arm()
            with self.faults.watching():
                assert self.run(place).exit_code == 0
            self.calls.append(self.faults.calls)
            self.stages.append(root / f"{place + 1}")
            shutil.copytree(self.here, self.stages[-1])
        self.wanted = [contents(stage) for stage in self.stages]

    def run(self, place: int) -> RunSummary:
        """What `harness run` does, for the cells up to this one."""
        plan = Plan("run", CELLS[: place + 1])
        record(self.store.folder, plan)
        return LocalExecutor(1).run(plan, self.store, Settings(models=self.models))

    def restore(self, place: int) -> None:
        """The folder as it was before this cell."""
        shutil.rmtree(self.here)
        shutil.copytree(self.stages[place], self.here)

    def strike(self, place: int, at: int, fault: str) -> None:
        """One call fails, at a time when the earlier cells are there; then all must be well."""
        self.restore(place)
        with self.faults.watching():
            if fault == "kill":
                self.faults.kill(lambda: self.run(place), at)
            else:
                self.faults.arm(at, fault)
                try:
                    self.run(place)
                except OSError as error:
                    assert error.filename  # noqa: PT017 - one line with exit code 2, no traceback
                except KeyboardInterrupt:
                    assert fault == "interrupt"
                assert len(self.faults.calls) > at
        finished = self.check(place)
        assert finished.keys() >= {cell.id for cell in CELLS[:place]}
        summary = self.run(place)
        assert (summary.exit_code, summary.failed) == (0, ())
        assert self.check(place).items() >= finished.items()
        left = contents(self.here)
        assert {name for name in left if not name.endswith(".lock")} == {
            name for name in self.wanted[place + 1] if not name.endswith(".lock")
        }

    def check(self, place: int) -> dict[str, int]:
        """All that is published is right; the finished cells, with the place of their folder."""
        finished = {name: (self.store.cells / name).stat().st_ino for name in self.store.ids()}
        for name in finished:
            self.store.verify(name)
        for models in (self.models, self.models.truths):
            for name in models.ids():
                models.verify(name)
        wanted = self.wanted[place + 1]
        for name, content in contents(self.here).items():
            published = name.startswith(("run/cells/", "models/")) and "/." not in name
            assert not published or content == wanted[name], name
        if (self.store.folder / "plan.json").exists():
            statuses = {cell.entry.id: cell.status for cell in load_cells(self.store.folder)}
            assert all((statuses[name] == "ok") for name in finished if name in statuses)
            assert "damaged" not in statuses.values()
        return finished


def contents(folder: Path) -> dict[str, bytes]:
    """All files by their relative path; those that hold times and places as if they were empty."""
    varying = ("timing.json", "provenance.json", "manifest.json")
    return {
        path.relative_to(folder).as_posix(): b"" if path.name in varying else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def world(_memoised: None) -> Iterator[World]:
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield World(Path(folder))


PLACES = range(len(CELLS))


def test_the_run_makes_calls_of_every_kind(world: World) -> None:
    """In every cell; each of the 3 cells is a stage of the test."""
    for calls in world.calls:
        assert {call.split()[0] for call in calls} == ERRORS.keys()
        assert len(calls) > 50
    every = " ".join(chain.from_iterable(world.calls))
    for name in ("training.partial", "edge_pruning", "acdc_", "truths", "plan.json", "examples"):
        assert name in every


@pytest.mark.parametrize(("fault", "first"), [("error", 0), ("interrupt", 10), ("kill", 20)])
def test_some_calls_fail(world: World, fault: str, first: int) -> None:
    """Each 29th call: two seconds of the next test, and an interrupt."""
    for place in PLACES:
        for at in range(first, len(world.calls[place]), 29):
            world.strike(place, at, fault)


@pytest.mark.slow  # 15 to 25 s of one core for each fault
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", ["error", "kill"])
def test_every_call_fails(world: World, fault: str, place: int) -> None:
    for at in range(len(world.calls[place])):
        world.strike(place, at, fault)
