"""A shared machine: threads that wait do not spin, and a busy machine is said to be one."""

import os
import platform
import subprocess
import sys
from typing import Any

import pytest

from harness.runs.services.forecasts.busy import Load, Watch

POLICY = "OMP_WAIT_POLICY"


def policy_after(code: str, name: str = POLICY, **environment: str) -> str:
    inherited = {key: value for key, value in os.environ.items() if key != name}
    done = subprocess.run(
        [sys.executable, "-c", f"import os, sys\n{code}\nprint(os.environ.get({name!r}))"],
        capture_output=True,
        text=True,
        env={**inherited, **environment},
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["harness", "harness.cli.main", "harness.__main__"])
def test_threads_wait_passively_from_the_first_import_on(module: str) -> None:
    assert policy_after(f"import {module}") == "PASSIVE"


def test_the_users_own_policy_stays() -> None:
    assert policy_after("import harness", OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_nothing_is_set_where_torch_has_read_it_already() -> None:
    assert policy_after("sys.modules['torch'] = object()\nimport harness") == "None"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="torch may share numpy's BLAS here")
def test_the_command_line_takes_one_thread_for_intervals() -> None:
    blas = "OPENBLAS_NUM_THREADS"
    assert policy_after("import harness.cli.main", blas) == "1"
    assert policy_after("import harness.cli.main", blas, **{blas: "2"}) == "2"
    assert policy_after("import harness", blas) == "None"  # a script's numpy is its own


def test_torchs_own_library_reads_it() -> None:
    inherited = {name: value for name, value in os.environ.items() if name != POLICY}
    done = subprocess.run(
        [sys.executable, "-c", "import harness, torch"],
        capture_output=True,
        text=True,
        env={**inherited, "OMP_DISPLAY_ENV": "true"},
        timeout=60,
        check=True,
    )
    if "OPENMP DISPLAY ENVIRONMENT" not in done.stderr:
        pytest.skip("this torch was built without OpenMP")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr


# ---------------------------------------------------------------- a busy machine
@pytest.mark.parametrize(
    ("cores", "others", "wanted", "times"),
    [
        (2, 0.0, 2, 1.0),
        (2, 1.0, 1, 1.0),  # a core is free
        (2, 2.0, 1, 1.5),  # two thirds of a core are a fair share of two cores among three
        (2, 2.0, 2, 2.0),
        (2, 1.0, 2, 1.5),
        (8, 2.0, 4, 1.0),
        (2, 0.0, 16, 1.0),  # more threads than cores get no more than there are
    ],
)
def test_how_much_longer_work_takes(cores: int, others: float, wanted: int, times: float) -> None:
    load = Load(cores, others)
    assert load.slower(wanted) == pytest.approx(times)
    assert (load.warning(wanted) is None) == (times < 1.2)


def test_a_warning_says_how_busy_and_what_it_changes() -> None:
    text = Load(2, 1.94).warning(2)
    assert text is not None
    assert "other processes use 1.9 of its 2 cores" in text
    assert "about 2.0 times as long" in text


def test_work_of_others_is_noticed_and_own_work_is_not() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            assert Watch().load(0.3).others > 0.3
        finally:
            other.kill()


def test_run_says_so_before_the_first_cell_and_not_where_all_are_stored(
    harness: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "load", lambda *_: Load(2, 2.0))
    assert "this machine is busy" in harness("run", "trial").stderr
    assert "this machine is busy" not in harness("run", "trial").stderr


def test_doctor_says_how_busy_the_machine_is(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watch, "load", lambda *_: Load(2, 0.1))
    assert "no: others use 0.1 of 2 cores" in harness("doctor").stdout
    monkeypatch.setattr(Watch, "load", lambda *_: Load(2, 1.9))
    assert "this machine is busy: other processes use 1.9" in harness("doctor").stdout


@pytest.mark.parametrize(
    ("git", "line"),
    [
        ({"commit": "abc", "dirty": False}, "commit abc, no changes"),
        ({"commit": "abc", "dirty": True}, "commit abc, with changes"),
        (None, "not in a repository"),
    ],
)
def test_doctor_says_whether_the_tree_has_changes(
    harness: Any, monkeypatch: pytest.MonkeyPatch, git: Any, line: str
) -> None:
    monkeypatch.setattr("harness.runs.store.provenance.package_git_state", lambda: git)
    shown = next(x for x in harness("doctor").stdout.splitlines() if x.split()[0] == "git")
    assert line in shown
    assert "not installed" not in shown
