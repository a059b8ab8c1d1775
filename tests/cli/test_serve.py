"""`harness serve` as a process: it says where it is, and ends cleanly."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from support.stored_cells import cell_of
from support.stored_pages import stored_with_circuits


def served(folder: Path, *options: str) -> subprocess.Popen[str]:
    """The verb, with Ctrl-C let through even where the tests run in the background."""
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from harness.cli.main import main; main()"
    )
    command = [sys.executable, "-c", start, "serve", str(folder), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_ended(tmp_path: Path, ending: signal.Signals) -> None:
    stored_with_circuits(tmp_path / "run", [cell_of("best")])
    before = sorted(tmp_path.rglob("*"))
    process = served(tmp_path / "run", "--port", "0")
    assert process.stderr is not None
    address = re.fullmatch(r"run at (http://127.0.0.1:(\d+)/) .*\n", process.stderr.readline())
    assert address is not None
    with urllib.request.urlopen(address[1], timeout=60) as answer:
        assert b"<title>Circuit report: run</title>" in answer.read()
    other = served(tmp_path / "run", "--port", address[2])
    assert other.wait(60) == 2
    assert other.communicate()[1].startswith(f"error: port {address[2]} is taken")
    process.send_signal(ending)
    assert process.wait(20) == 0
    assert process.communicate()[1] == "ended\n"
    assert sorted(tmp_path.rglob("*")) == before  # nothing was written
