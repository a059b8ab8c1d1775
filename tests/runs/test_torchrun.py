"""Processes that share prompts settle each cell once, and a failure in one is a failure of all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from support.fake_cells import FakeLibrary, a_cell, a_method, a_suite, a_task, loaded
from support.shared_cells import CALLS, COMPUTE
from support.threads_as_processes import in_processes

from harness import ranks
from harness.errors import HarnessError
from harness.runs.compute.gpu import WORKER
from harness.runs.executors.session import RunSummary, Settings
from harness.runs.executors.torchrun import TorchrunExecutor, follow
from harness.runs.executors.worker import Event
from harness.runs.plan import Plan, expand
from harness.runs.plan.grid import Overrides
from harness.runs.plan.processes import require_processes
from harness.runs.store import CellStore, ModelStore
from harness.spec.types import Runtime

METHODS = [a_method("a"), a_method("b"), a_method("c")]


def a_plan(methods, overrides: Overrides | None = None, **changes) -> Plan:
    task = a_task()
    suite = loaded(a_suite([task], methods, **changes))
    return expand(suite, FakeLibrary(task, *methods), overrides)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKER, "0")  # put back afterwards
    CALLS.clear()


def run(plan: Plan, folder: Path, world: int = 2, **changes) -> tuple[RunSummary, list[Event]]:
    """What process 0 sums up, and all that it was told."""
    events: list[Event] = []
    store, models = CellStore(folder / "run"), ModelStore(folder / "models")
    settings = Settings(models=models, compute=COMPUTE, notify=events.append, **changes)

    def one():
        if ranks.is_first():
            return TorchrunExecutor().run(plan, store, settings)
        follow(plan, models, COMPUTE)
        return None

    return in_processes(world, one)[0], events


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_all_processes_compute_each_cell_and_one_stores_it(tmp_path, world):
    plan = a_plan(METHODS)
    summary, events = run(plan, tmp_path, world)
    assert set(summary.computed) == {cell.id for cell in plan.cells}
    assert Counter(CALLS) == {(rank, name): 1 for rank in range(world) for name in "abc"}
    assert {event.text for event in events if event.kind == "log"} == {"by process 0"}
    assert Counter(event.kind for event in events)["done"] == 3
    CALLS.clear()
    again, _ = run(plan, tmp_path, world)
    assert set(again.reused) == set(summary.computed)
    assert CALLS == []


@pytest.mark.parametrize("place", [0, 1])
def test_a_cell_that_fails_in_one_process_has_failed_and_the_others_go_on(tmp_path, place):
    plan = a_plan([METHODS[0], a_method("bad", fail_in=place), METHODS[2]])
    summary, _ = run(plan, tmp_path)
    (bad, reason), *others = summary.failed
    assert not others
    assert len(summary.computed) == 2
    assert "ValueError: no such number" in reason
    assert ("process 1 of 2" in reason) == (place == 1)
    error = CellStore(tmp_path / "run").failure(bad)["error"]
    assert "shared_cells.py" in "".join(error["traceback"])  # where it was raised, in its process


def test_the_first_failure_can_stop_all(tmp_path):
    plan = a_plan([a_method("bad", fail_in=1), *METHODS])
    summary, _ = run(plan, tmp_path, fail_fast=True)
    assert len(summary.failed) == 1
    assert len(summary.skipped) == 3
    assert {name for _, name in CALLS} == {"bad"}


# ---------------------------------------------------------------- plans
def test_processes_are_part_of_a_cells_id_and_not_of_its_models():
    (one,) = a_plan([a_method()]).cells
    (two,) = a_plan([a_method()], Overrides(processes=2)).cells
    assert one.id == a_plan([a_method()], Overrides(processes=1)).cells[0].id
    assert two.id != one.id
    assert "processes" not in one.identity["runtime"]
    assert two.identity["runtime"]["processes"] == 2
    assert two.model_id == one.model_id


def test_a_suite_of_another_number_of_processes_is_refused():
    suite = {"runtime": Runtime(processes=2)}
    assert a_plan([a_method()], **suite).cells[0].runtime.processes == 2
    assert a_plan([a_method()], Overrides(processes=2), **suite).cells[0].runtime.processes == 2
    with pytest.raises(HarnessError, match=r"has runtime\.processes 2, and 3 are asked"):
        a_plan([a_method()], Overrides(processes=3), **suite)


@pytest.mark.parametrize("kind", ["acdc", "activation_patching", "somebodys"])
def test_methods_that_cannot_share_prompts_are_refused_with_the_plan(kind):
    with pytest.raises(HarnessError, match=rf"{kind} .*share (its )?prompts|{kind} does not say"):
        a_plan([a_method("eap"), a_method(kind)], Overrides(processes=2))
    assert len(a_plan([a_method("eap"), a_method(kind)]).cells) == 2


def test_cells_of_another_number_of_processes_than_there_are_are_refused(monkeypatch):
    two = a_cell(runtime=Runtime(processes=2))
    require_processes([two], 2)
    monkeypatch.setattr("sys.argv", ["/bin/harness", "run", "my suite", "--processes", "2"])
    with pytest.raises(HarnessError) as refused:
        require_processes([two], 1)
    assert "`torchrun --nproc-per-node 2 -m harness run 'my suite'`" in str(refused.value)
    with pytest.raises(HarnessError, match="for one process, and there are 2: start it"):
        require_processes([a_cell()], 2)
