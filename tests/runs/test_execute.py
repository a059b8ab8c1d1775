"""Running plans: every cell once, failures contained, kills survived."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_cells import (
    COMPUTE,
    LOG,
    SIGKILL,
    FakeLibrary,
    a_method,
    a_model,
    a_suite,
    a_task,
    loaded,
)

from harness.runs.executors.local import LocalExecutor
from harness.runs.executors.session import RunSummary, Settings
from harness.runs.executors.worker import Event
from harness.runs.plan import Plan, expand
from harness.runs.store import CellStore, ModelStore


def a_plan(tasks: list[Any], methods: list[Any], **changes: Any) -> Plan:
    library: Any = FakeLibrary(*tasks, *methods)
    return expand(loaded(a_suite(tasks, methods, **changes)), library)


class Bench:
    """A results folder, a log of what was computed, and what the run told us."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = CellStore(folder / "run")
        self.models = ModelStore(folder / "models")
        self.log = folder / "log"
        self.events: list[Event] = []

    def run(self, plan: Plan, jobs: int = 1, **changes: Any) -> RunSummary:
        settings = Settings(models=self.models, compute=COMPUTE, notify=self.events.append)
        return LocalExecutor(jobs).run(plan, self.store, replace(settings, **changes))

    def lines(self, word: str) -> Counter[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return Counter(line.split()[1] for line in lines if line.startswith(word))

    def results(self) -> dict[str, bytes]:
        return {i: (self.store.cells / i / "result.json").read_bytes() for i in self.store.ids()}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv(LOG, str(tmp_path / "log"))
    return Bench(tmp_path)


TASKS = [a_task("one"), a_task("two", model=a_model(seed=1))]
METHODS = [a_method("a"), a_method("b"), a_method("c")]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_computes_all_and_a_rerun_nothing(bench: Bench, jobs: int) -> None:
    plan = a_plan(TASKS, METHODS, seeds=(0, 1))
    first = bench.run(plan, jobs)
    assert set(first.computed) == {cell.id for cell in plan.cells}
    assert len(first.models_built) == 2
    assert first.exit_code == 0
    assert bench.lines("done") == Counter({cell.id: 1 for cell in plan.cells})
    assert set(bench.lines("train").values()) == {1}
    before = bench.results()

    again = bench.run(plan, jobs)
    assert set(again.reused) == {cell.id for cell in plan.cells}
    assert again.computed == ()
    assert set(again.models_reused) == set(first.models_built)
    assert bench.results() == before
    assert bench.lines("done") == Counter({cell.id: 1 for cell in plan.cells})


def test_a_run_with_everything_stored_never_imports_the_numbers(bench: Bench) -> None:
    plan = a_plan(TASKS[:1], METHODS[:1])
    bench.run(plan)
    assert bench.run(plan, compute="no_such_module:compute").exit_code == 0


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failing_cell_does_not_stop_the_rest(bench: Bench, jobs: int) -> None:
    methods = [METHODS[0], a_method("bad", fail="out of luck"), METHODS[2]]
    plan = a_plan(TASKS, methods)
    summary = bench.run(plan, jobs)
    bad = {cell.id for cell in plan.cells if cell.method.name == "bad"}
    assert {cell_id for cell_id, _ in summary.failed} == bad
    assert all("out of luck" in reason for _, reason in summary.failed)
    assert len(summary.computed) == 4
    assert summary.exit_code == 1
    # Each failing cell is tried once, however many workers look at it.
    assert all(bench.lines("start")[cell_id] == 1 for cell_id in bad)
    assert {cell_id for cell_id in bad if bench.store.failure(cell_id)} == bad


def test_a_rerun_tries_failed_cells_again(bench: Bench) -> None:
    plan = a_plan(TASKS[:1], [a_method("bad", fail="x")])
    bench.run(plan)
    bench.run(plan)
    assert bench.lines("start")[plan.cells[0].id] == 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_fail_fast_stops_before_the_next_cell(bench: Bench, jobs: int) -> None:
    methods = [a_method("bad", fail="x"), *(a_method(f"m{i}", sleep=0.2) for i in range(8))]
    summary = bench.run(a_plan(TASKS[:1], methods), jobs, fail_fast=True)
    assert len(summary.failed) == 1
    assert summary.skipped
    assert summary.exit_code == 1


def test_a_result_that_cannot_be_written_fails_its_cell(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = a_plan(TASKS[:1], METHODS)

    def full(*_: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(CellStore, "publish", full)
        assert len(bench.run(plan).failed) == 3
    assert bench.run(plan).exit_code == 0


def test_an_interrupt_leaves_a_clean_store(bench: Bench) -> None:
    plan = a_plan(TASKS[:1], [METHODS[0], a_method("stop", interrupt=True), METHODS[2]])
    with pytest.raises(KeyboardInterrupt):
        bench.run(plan)
    assert bench.store.ids() == [plan.cells[0].id]
    assert list(bench.store.work.iterdir()) == []
    assert not any(bench.store.is_claimed(cell.id) for cell in plan.cells)
    assert bench.store.failure(plan.cells[1].id) is None


def test_a_killed_worker_costs_one_cell(bench: Bench) -> None:
    methods = [a_method("killer", die=SIGKILL), *METHODS]
    plan = a_plan(TASKS, methods)
    summary = bench.run(plan, jobs=2)
    killers = {cell.id for cell in plan.cells if cell.method.name == "killer"}
    assert {cell_id for cell_id, _ in summary.failed} == killers
    assert all("signal 9" in reason for _, reason in summary.failed)
    assert len(summary.computed) == 6
    assert not any(bench.store.work.iterdir())


def test_workers_that_cannot_start_are_a_bug_not_a_loop(bench: Bench) -> None:
    with pytest.raises(RuntimeError, match="keep ending"):
        bench.run(a_plan(TASKS, METHODS), jobs=2, compute="no_such_module:compute")


def test_events_tell_the_story_of_each_cell(bench: Bench) -> None:
    plan = a_plan(TASKS[:1], [METHODS[0], a_method("bad", fail="why")])
    bench.run(plan)
    good, bad = (cell.id for cell in plan.cells)
    kinds = [(event.kind, event.cell_id) for event in bench.events]
    assert kinds == [
        ("start", good),
        ("log", good),
        ("done", good),
        ("start", bad),
        ("failed", bad),
    ]
    assert "why" in bench.events[-1].text


@pytest.mark.parametrize("jobs", [1, 2])
def test_stages_are_told_from_every_worker_and_their_end_too(bench: Bench, jobs: int) -> None:
    plan = a_plan(TASKS, [a_method("a", search=1)])
    bench.run(plan, jobs)
    for cell in plan.cells:
        told = [x.stages for x in bench.events if (x.kind, x.cell_id) == ("stage", cell.id)]
        (search,), end = told
        assert (search.title, search.done, search.total, search.saved) == ("search", 4, 10, 4)
        assert end == ()


def test_workers_start_on_different_models(bench: Bench) -> None:
    from harness.runs.executors.session import Session

    plan = a_plan(TASKS, METHODS)
    session = Session(plan, bench.store, Settings(models=bench.models, compute=COMPUTE))
    first, second = session.job(0, 2), session.job(1, 2)
    assert first.cells[0].model_id != second.cells[0].model_id
    assert {c.id for c in first.cells} == {c.id for c in second.cells}
    # Cells of one model follow each other, so that it is trained once and then at hand.
    assert len({c.model_id for c in first.cells[:3]}) == 1


# ---------------------------------------------------------------- whole processes
DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from support.fake_cells import COMPUTE, FakeLibrary, a_method, a_model, a_suite, a_task, loaded
from harness.runs.executors.local import LocalExecutor
from harness.runs.executors.session import Settings
from harness.runs.plan import expand
from harness.runs.store import CellStore, ModelStore

if __name__ == "__main__":
    folder, jobs, sleep = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    tasks = [a_task("one"), a_task("two", model=a_model(seed=1))]
    methods = [a_method(name) for name in "abcd"]
    plan = expand(loaded(a_suite(tasks, methods)), FakeLibrary(*tasks, *methods))
    settings = Settings(models=ModelStore(folder / "models"), compute="slow:compute")
    summary = LocalExecutor(jobs).run(plan, CellStore(folder / "run"), settings)
    sys.exit(summary.exit_code)
"""
SLOW = """
import os, time
from support import fake_cells
def compute(cell, models, log):
    time.sleep(float(os.environ["SLEEP"]))
    return fake_cells.compute(cell, models, log)
"""


class Driver:
    """`harness run` in another process, with slow made-up cells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "slow.py").write_text(SLOW)
        (folder / "driver.py").write_text(DRIVER.format(tests=str(Path(__file__).parents[1])))

    def start(self, results: Path, jobs: int = 1, sleep: float = 0.2) -> "subprocess.Popen[bytes]":
        paths = [str(self.folder), str(Path(__file__).parents[1]), *sys.path]
        environment = {
            **os.environ,
            LOG: str(results) + ".log",
            "SLEEP": str(sleep),
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        }
        command = [sys.executable, "driver.py", str(results), str(jobs), str(sleep)]
        return subprocess.Popen(command, cwd=self.folder, env=environment, start_new_session=True)


def cells_of(results: Path) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in results.glob("run/cells/*/result.json")}


def wait_for_cells(results: Path, count: int, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while len(cells_of(results)) < count:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_kill_and_rerun_gives_the_bytes_of_an_uninterrupted_run(tmp_path: Path, jobs: int) -> None:
    driver = Driver(tmp_path)
    assert driver.start(tmp_path / "whole", sleep=0).wait(60) == 0
    killed = tmp_path / "killed"
    for stop_after in (1, 4):
        process = driver.start(killed, jobs)
        wait_for_cells(killed, stop_after)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert driver.start(killed, jobs, sleep=0).wait(60) == 0
    assert cells_of(killed) == cells_of(tmp_path / "whole")
    assert len(cells_of(killed)) == 8
    assert list((killed / "run" / ".work").glob("*")) == []


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    results = tmp_path / "results"
    process = Driver(tmp_path).start(results, jobs=2, sleep=1.5)
    store = CellStore(results / "run")
    end = time.monotonic() + 60
    while not any(map(store.is_claimed, (p.stem for p in store.locks.glob("*.lock")))):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    time.sleep(2.5)
    assert cells_of(results) == {}


def test_two_processes_on_one_folder_finish_every_cell_once(tmp_path: Path) -> None:
    driver = Driver(tmp_path)
    results = tmp_path / "results"
    processes = [driver.start(results, jobs, sleep=0.1) for jobs in (1, 2)]
    assert [process.wait(90) for process in processes] == [0, 0]
    log = Path(f"{results}.log").read_text().splitlines()
    done = Counter(line.split()[1] for line in log if line.startswith("done"))
    assert done == Counter(dict.fromkeys(cells_of(results), 1))
    assert len(done) == 8


def test_an_interrupted_pool_ends_its_workers(tmp_path: Path) -> None:
    results = tmp_path / "results"
    process = Driver(tmp_path).start(results, jobs=2, sleep=0.3)
    wait_for_cells(results, 2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) != 0
    assert list((results / "run" / ".work").glob("*")) == []
    for path in results.glob("run/cells/*/result.json"):
        json.loads(path.read_text())
