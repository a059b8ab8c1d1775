"""`torchrun -m harness run`: the numbers of one process, whatever happens to one of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file
from support.processes import ROOT, TASK, launch

from harness.cli.main import main
from harness.launcher import ENVIRONMENT
from harness.runs.store import CellStore

SUITE = """\
spec_version: 1
name: trial
title: A trial
tasks: [toy]
methods: [masks, eap]
controls: [random_paths]
seeds: [0]
runtime: {threads: 1}
"""
MASKS = """\
spec_version: 1
name: masks
title: Masks of few steps
kind: edge_pruning
params: {steps: 20, batch_size: 16, sparsities: [0.5]}
"""
DISTURBED = str(ROOT / "tests/support/disturbed_run.py")


def torchrun(
    folder: Path,
    results: str,
    program: tuple[str, ...] = ("-m", "harness"),
    **more: str,
) -> tuple[int, str, str]:
    """Exit code, what was printed, and what was said of a run in two processes."""
    arguments = [*program, "run", "trial", "-o", str(folder / results), "--include", str(folder)]
    process = launch(arguments, more=more)
    try:
        out, errors = process.communicate(timeout=200)
    finally:
        process.terminate()  # where it hangs: its processes end with it
    return process.returncode, out, errors


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    for path, text in {
        "tasks/toy.yaml": TASK,
        "specs/suites/trial.yaml": SUITE,
        "specs/methods/masks.yaml": MASKS,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.fixture(scope="module")
def undisturbed(specs: Path) -> tuple[str, str]:
    """What two processes print and say."""
    code, out, errors = torchrun(specs, "two")
    assert code == 0, errors
    return out, errors


def with_model(specs: Path, name: str) -> str:
    """A results folder that has the trained model alone."""
    results = name.replace(":", "-")
    shutil.copytree(specs / "two" / "models", specs / results / "models")
    return results


def by_method(folder: Path) -> dict[str, tuple[dict[str, Any], Path]]:
    store = CellStore(folder / "trial")
    return {store.result(i)["method"]: (store.result(i), store.cells / i) for i in store.ids()}


def results_of(folder: Path) -> dict[str, bytes]:
    return {
        method: (cell / "result.json").read_bytes()
        for method, (_, cell) in by_method(folder).items()
    }


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one_and_say_everything_once(specs, undisturbed):
    out, errors = undisturbed
    arguments = ["run", "trial", "-o", str(specs / "one"), "--include", str(specs)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    one, two = by_method(specs / "one"), by_method(specs / "two")
    assert one.keys() == two.keys() == {"masks", "eap", "random_paths"}
    for method, (result, folder) in one.items():
        shared, shared_folder = two[method]
        assert shared["identity"]["runtime"]["processes"] == 2
        assert shared["data_digest"] == result["data_digest"]
        scores, others = (load_file(x / "circuit.safetensors") for x in (folder, shared_folder))
        largest = float(np.abs(scores["scores"]).max())
        tolerance = 1e-5 if method == "masks" else 1e-6
        assert float(np.abs(scores["scores"] - others["scores"]).max()) <= tolerance * largest
        values, others = (load_file(x / "examples.safetensors") for x in (folder, shared_folder))
        for name, value in values.items():
            np.testing.assert_allclose(others[name], value, rtol=1e-4, atol=1e-5)
        assert json.loads((shared_folder / "provenance.json").read_text())["processes"] == 2
    assert out.count("random_paths") == 1
    assert errors.count("eap seed 0: done") == 1
    assert errors.count("trained model") == 1


@pytest.mark.slow
def test_the_plan_of_two_processes_finds_what_they_stored(specs, undisturbed):
    grid = ["--include", str(specs), "-o", str(specs / "two"), "--json"]
    planned = CliRunner().invoke(main, ["plan", "trial", "--processes", "2", *grid])
    shared = json.loads(planned.stdout)
    assert {cell["state"] for cell in shared[0]["cells"]} == {"reused"}
    alone = json.loads(CliRunner().invoke(main, ["plan", "trial", *grid]).stdout)
    assert {cell["state"] for cell in alone[0]["cells"]} == {"new"}


@pytest.mark.slow
@pytest.mark.parametrize("what", ["0:12:kill", "1:12:kill", "1:12:interrupt"])
def test_a_killed_process_ends_the_run_and_the_same_command_resumes(specs, undisturbed, what):
    results = with_model(specs, what)
    code, _, errors = torchrun(specs, results, (DISTURBED,), DISTURBED=what)
    assert code != 0
    store = CellStore(specs / results / "trial")
    assert store.ids() == []
    assert store.failed_ids() == []
    assert ("interrupted" in errors) == ("interrupt" in what)
    code, _, errors = torchrun(specs, results, (DISTURBED,))
    assert code == 0, errors
    assert "reused model" in errors
    assert results_of(specs / results) == results_of(specs / "two")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("1:5:raise", "process 1 of 2: ValueError: no luck at step 5"),
        ("1:5:drift", "learned masks are not the same in all processes: those of process 1"),
    ],
)
def test_an_error_in_one_process_fails_its_cell_alone(specs, undisturbed, what, reason):
    results = with_model(specs, what)
    code, _, errors = torchrun(specs, results, (DISTURBED,), DISTURBED=what)
    assert code == 1
    assert "failed toy masks seed 0" in errors
    assert reason in errors
    store = CellStore(specs / results / "trial")
    assert len(store.ids()) == 2
    assert [store.failure(i)["method"] for i in store.failed_ids()] == ["masks"]


# ---------------------------------------------------------------- refusals
@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As torchrun would have started this process; nothing joins."""
    for name, value in zip(ENVIRONMENT, ("0", "2", "localhost", "1"), strict=True):
        monkeypatch.setenv(name, value)
    return


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["run", "--jobs", "2"], "leave out --jobs"),
        (["run", "--executor", "ray"], "leave out --executor"),
        (["judge", "x"], "harness judge is for one process: start it without torchrun"),
    ],
)
def test_what_torchrun_cannot_share_is_refused(launched, arguments, reason):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert reason in done.stderr


def test_processes_without_torchrun_are_refused_with_the_command(specs):
    done = CliRunner().invoke(main, ["run", "trial", "--processes", "2", "--include", str(specs)])
    assert done.exit_code == 2
    assert "torchrun --nproc-per-node 2 -m harness run" in done.stderr


def test_other_processes_than_the_first_print_nothing(launched, monkeypatch):
    assert "No such command" in CliRunner().invoke(main, ["runn"]).stderr
    monkeypatch.setenv("RANK", "1")
    assert CliRunner().invoke(main, ["runn"]).output == ""
