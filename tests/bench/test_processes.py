"""The bench of processes that share prompts, with threads in their place."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from support.threads_as_processes import in_processes

from harness.bench.processes import bench_processes
from harness.bench.rows import NAMES, SHARED
from harness.bench.subject import Bench
from harness.cli.main import main
from harness.errors import HarnessError, NotFound
from harness.launcher import ENVIRONMENT
from harness.runs.compute.gpu import WORKER

TINY = Bench("small-random", batch=3, length=4, threads=1, repeats=1)


@pytest.fixture(autouse=True)
def _worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKER, "0")  # put back afterwards


@pytest.mark.slow
def test_all_processes_report_the_least_seconds_alone_and_together():
    one, two = in_processes(2, lambda: bench_processes(TINY, ("eap",)))
    assert one == two
    (row,) = one["rows"]
    assert one["processes"] == 2
    assert row["method"] == "eap"
    assert row["alone_seconds"] > 0 < row["seconds"]
    assert row["speedup"] == row["alone_seconds"] / row["seconds"]


@pytest.mark.parametrize(
    ("bench", "rows", "error", "reason"),
    [
        (TINY, ("acdc per edge",), NotFound, "cannot share the row 'acdc per edge'"),
        (Bench(batch=1), ("eap",), HarnessError, "2 processes cannot share 1 prompts"),
    ],
)
def test_what_cannot_be_shared_is_refused(bench, rows, error, reason):
    with pytest.raises(error, match=reason):
        in_processes(2, lambda: bench_processes(bench, rows))


def test_rows_that_are_shared_are_rows():
    assert set(SHARED) < set(NAMES)


def test_other_benches_are_for_one_process(monkeypatch):
    for name, value in zip(ENVIRONMENT, ("0", "2", "localhost", "1"), strict=True):
        monkeypatch.setenv(name, value)
    refused = CliRunner().invoke(main, ["bench", "--games", "3"])
    assert refused.exit_code == 2
    assert "--games does not go with" in refused.stderr
