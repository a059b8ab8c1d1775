"""Cells on a Ray cluster of two nodes on this machine: the same bytes, whatever dies.

The nodes' own `harness` cannot be imported, so that what computes there came with the driver.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.fake_cells import COMPUTE, LOG, FakeLibrary, a_method, a_model, a_suite, a_task, loaded
from support.file_task import write_file_task

from harness.errors import HarnessError
from harness.runs.executors.local import LocalExecutor
from harness.runs.executors.ray.executor import RayExecutor
from harness.runs.executors.session import RunSummary, Settings
from harness.runs.executors.worker import Event
from harness.runs.plan import Plan, expand
from harness.runs.store import CellStore, ModelStore
from harness.spec.load import Library
from harness.spec.types import Runtime

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
TASKS = [a_task("one"), a_task("two", model=a_model(seed=1))]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, log: Path) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    other = tmp_path_factory.mktemp("other")
    (other / "harness").mkdir()
    (other / "harness" / "__init__.py").write_text("raise ImportError('code of the node')")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{other}{os.pathsep}{TESTS}")
        patch.setenv(LOG, str(log))
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        yield cluster
        cluster.shutdown()


class Bench:
    """A results folder, what the workers wrote, and what the run told us."""

    def __init__(self, folder: Path, address: str, log: Path) -> None:
        self.store, self.models = CellStore(folder / "run"), ModelStore(folder / "models")
        self.address, self.log = address, log
        self.events: list[Event] = []
        log.unlink(missing_ok=True)

    def run(self, plan: Plan, retries: int = 3, **changes: Any) -> RunSummary:
        settings = Settings(models=self.models, compute=COMPUTE, notify=self.events.append)
        executor = RayExecutor(self.address, retries=retries)
        return executor.run(plan, self.store, replace(settings, **changes))

    def count(self, word: str) -> int:
        text = self.log.read_text() if self.log.exists() else ""
        return sum(line.startswith(word) for line in text.splitlines())

    def computes_below(self, process: int) -> bool:
        """Whether some worker that a process has started is in the midst of a cell."""
        lines = (
            [line.split() for line in self.log.read_text().splitlines()]
            if self.log.exists()
            else []
        )
        done = {line[1] for line in lines if line[0] == "done"}
        pids = [int(line[3]) for line in lines if line[0] == "start" and line[1] not in done]
        return any(
            process in {one.pid for one in psutil.Process(pid).parents()}
            for pid in pids
            if psutil.pid_exists(pid)
        )


@pytest.fixture
def bench(tmp_path: Path, cluster: Any, log: Path) -> Bench:
    return Bench(tmp_path / "ray", cluster.address, log)


def a_plan(methods: list[Any], **changes: Any) -> Plan:
    library: Any = FakeLibrary(*TASKS, *methods)
    return expand(loaded(a_suite(TASKS, methods, runtime=Runtime(threads=1), **changes)), library)


def contents(store: CellStore) -> dict[str, bytes]:
    """What has to be equal of all cells: all but times and origin."""
    return {
        f"{cell}/{name}": store.read(cell).read(name)
        for cell in store.ids()
        for name in store.read(cell).digests
        if name not in ("timing.json", "provenance.json")
    }


def test_real_cells_have_the_bytes_of_one_process(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight cells of a data file with a loaded model, which no node can see, and a trained one."""
    monkeypatch.setattr("sys.argv", ["harness", "run", "letters", "--executor", "ray"])
    suite, library = write_file_task(tmp_path / "mine"), Library()
    files = expand(library.suite(str(suite)), library)
    trained = a_plan([a_method("eap"), a_method("random")], seeds=(0,))
    plan = Plan("run", (*files.cells, *trained.cells))
    assert len(plan.cells) == 8
    here = CellStore(tmp_path / "here" / "run")
    models = ModelStore(tmp_path / "here" / "models")
    assert LocalExecutor().run(plan, here, Settings(models=models)).exit_code == 0

    def hide(event: Event) -> None:
        # All cells have been handed out; from here on nobody sees the user's files.
        if event.kind == "start" and (tmp_path / "mine").exists():
            (tmp_path / "mine").rename(tmp_path / "gone")

    executor = RayExecutor(bench.address, jobs=8)
    settings = Settings(models=bench.models, notify=hide)
    first = executor.run(plan, bench.store, settings)
    assert first.failed == ()
    assert len(first.computed) == 8
    assert len(first.models_built) == 2
    assert (tmp_path / "gone").exists()
    assert contents(bench.store) == contents(here)
    assert bench.models.ids() == models.ids()
    for cell in plan.cells:
        bench.store.verify(cell.id)
        origin = bench.store.provenance(cell.id)
        assert origin["argv"] == ["harness", "run", "letters", "--executor", "ray"]
    again = executor.run(plan, bench.store, settings)
    assert (again.computed, again.models_built, len(again.reused)) == ((), (), 8)


def test_a_model_is_trained_once_and_reused(bench: Bench) -> None:
    first = bench.run(a_plan([a_method("a"), a_method("b")], seeds=(0, 1)))
    assert (len(first.computed), len(first.models_built)) == (8, 2)
    trainings = [e for e in bench.events if e.kind == "log" and e.text.startswith("training model")]
    assert len(trainings) == 2
    assert {e.kind for e in bench.events} >= {"start", "log", "done"}
    later = bench.run(a_plan([a_method("c")]))
    assert (len(later.computed), later.models_built) == (2, ())
    assert sum(e.text.startswith("training model") for e in bench.events) == 2


def test_a_killed_worker_is_tried_again(bench: Bench, tmp_path: Path) -> None:
    fatal = a_method("fatal", die_once=str(tmp_path / "died"))
    plan = a_plan([a_method("a"), fatal], seeds=(0, 1))
    summary = bench.run(plan)
    assert (tmp_path / "died").exists()
    assert len(summary.computed) == 8
    assert bench.count("start") == 9
    assert bench.count("done") == 8


def test_a_poison_cell_fails_alone(bench: Bench) -> None:
    plan = a_plan([a_method("a"), a_method("fatal", die=9), a_method("bad", fail="out of luck")])
    summary = bench.run(plan, retries=1)
    assert len(summary.computed) == 2
    reasons = dict(summary.failed)
    for cell in plan.cells:
        if cell.method.name == "fatal":
            assert "its worker died 2 times" in reasons[cell.id]
        elif cell.method.name == "bad":
            assert "out of luck" in reasons[cell.id]
            failure = bench.store.failure(cell.id)
            assert failure is not None
            assert "fake_cells.py" in "".join(failure["error"]["traceback"])
    # Deaths are tried again, errors never.
    assert bench.count("start") == 2 + 2 * 2 + 2


def test_a_node_that_vanishes_takes_nothing_with_it(bench: Bench, cluster: Any) -> None:
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    raylet = node.all_processes["raylet"][0].process.pid
    plan = a_plan([a_method("a", sleep=3), a_method("b", sleep=3)], seeds=(0, 1))

    def kill(_event: Event) -> None:
        nonlocal node
        if node is not None and bench.computes_below(raylet):
            cluster.remove_node(node, allow_graceful=False)
            node = None

    summary = bench.run(plan, notify=kill)
    assert node is None
    assert len(summary.computed) == 8
    assert bench.count("start") > 8


def test_workers_of_other_code_publish_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.runs.plan.cells.SEMANTICS_VERSION", 3)
    plan = a_plan([a_method("a")])
    summary = bench.run(plan)
    assert summary.computed == ()
    assert bench.store.ids() == []
    assert bench.models.ids() == []
    assert len(summary.failed) == 2
    assert all("code was 3, and is 2 here" in reason for _, reason in summary.failed)


def test_a_failure_stops_what_has_not_begun(bench: Bench) -> None:
    plan = a_plan([a_method("bad", fail="no"), a_method("a", sleep=0.5)], seeds=(0, 1, 2))
    summary = bench.run(plan, fail_fast=True)
    assert summary.failed
    assert summary.skipped
    assert bench.run(plan, compute=COMPUTE).exit_code == 1  # and the rest can be computed later


def test_what_no_node_can_compute_is_refused_before_the_start(bench: Bench) -> None:
    for runtime, word in ((Runtime(device="cuda"), "GPU"), (Runtime(threads=64), "64 threads")):
        library: Any = FakeLibrary(*TASKS, a_method("a"))
        plan = expand(loaded(a_suite(TASKS, [a_method("a")], runtime=runtime)), library)
        began = time.monotonic()
        with pytest.raises(HarnessError, match=word):
            bench.run(plan)
        assert time.monotonic() - began < 120


def test_an_interrupt_leaves_a_clean_store(bench: Bench) -> None:
    plan = a_plan([a_method("a", sleep=1)], seeds=(0, 1))

    def interrupt(event: Event) -> None:
        if event.kind == "done":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.run(plan, notify=interrupt)
    done = len(bench.store.ids())
    assert 1 <= done < 4
    assert not any(bench.store.is_claimed(cell.id) for cell in plan.cells)
    assert len(bench.run(plan).computed) == 4 - done


def test_no_cluster_is_one_clear_error(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "127.0.0.1:1", tmp_path / "log")
    with pytest.raises(HarnessError, match="cannot connect to a Ray cluster at '127"):
        bench.run(a_plan([a_method("a")]))


def test_a_damaged_model_fails_its_cells_alone(bench: Bench) -> None:
    bench.run(a_plan([a_method("a")]))
    plan = a_plan([a_method("b")])
    damaged = plan.cells[0].model_id
    (bench.models.path(damaged) / "model.safetensors").write_bytes(b"")
    summary = bench.run(plan)
    assert [cell for cell, _ in summary.failed] == [plan.cells[0].id]
    assert "is not what was published" in summary.failed[0][1]
    assert summary.computed == (plan.cells[1].id,)
