"""Runs of many cells: pages stay small, and each file of a cell is read as often as it must be.

Seconds are printed (`pytest -s`), since they are those of the machine and its other work.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.fake_cells import a_cell, a_method, a_task, output
from support.stored_pages import PROVENANCE, circuit_of

from harness.circuits.files import to_safetensors
from harness.cli.main import main
from harness.reports.page.document import page
from harness.runs.plan import Cell, Plan
from harness.runs.store import CellStore, sealed
from harness.runs.store.record import load_cells, record

pytestmark = pytest.mark.slow

SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
MOST_BYTES = 10_000_000
MOST_ELEMENTS = 100_000
"""Of a page: what a browser lays out in well under a second."""

GUESS = {"top": [{"token": " b", "probability": 0.2, "answer": "wrong"}] * 5, "probability": 0.1}


def prompts() -> bytes:
    """Twelve pairs of forty tokens."""
    read = {"at": 1, "good": [" b"], "bad": [" c"], "n_good": 1, "n_bad": 1, "kl": 0.5}
    pair = {"kl": 0.5, "clean": [" word"] * 40, "corrupted": [" word"] * 40, "differ": [1],
            "reads": [read | {"model": GUESS, "circuit": GUESS}], "n_reads": 1}  # fmt: skip
    pairs = [{"row": row, **pair} for row in range(12)]
    head = {"schema_version": 1, "size": 3, "n": 40, "answers_are_numbers": False}
    return json.dumps(head | {"pairs": pairs}).encode()


def stored(folder: Path, tasks: int, methods: int, seeds: int) -> list[Cell]:
    """A run with circuits and prompts; numbers are shared between tasks, since they take long."""
    evaluation = replace(a_task().evaluation, sizes=SIZES)
    cells = [
        a_cell(
            a_task(f"task-{task}", evaluation=evaluation),
            a_method(f"method-{method}", good=0.5 + method / 25),
            seed=seed,
        )
        for task in range(tasks)
        for method in range(methods)
        for seed in range(seeds)
    ]
    record(folder, Plan(folder.name, tuple(cells)))
    store, kept = CellStore(folder), {}
    for cell in cells:
        key = cell.method.name, cell.seed
        if key not in kept:
            kept[key] = output(cell)
        circuit = to_safetensors(circuit_of(cell.seed))
        files = {"circuit.safetensors": circuit, "prompts.json": prompts()}
        store.publish(
            cell.id,
            replace(
                kept[key],
                result={**kept[key].result, **cell.header()},
                tensors={**kept[key].tensors, **files},
            ),
            PROVENANCE,
        )
    return cells


@contextmanager
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often files of cells are hashed and read, by name."""
    counted: Counter[str] = Counter()
    read = sealed.SealedFolder.read

    def counting(self: Any, name: str) -> bytes:
        counted[name] += 1
        return read(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(sealed.SealedFolder, "read", counting)
        yield counted


def test_a_page_of_two_hundred_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Any
) -> None:
    cells = stored(tmp_path / "run", tasks=10, methods=4, seeds=5)
    assert len(cells) == 200
    began = time.process_time()
    text = page(load_cells(tmp_path / "run"))
    built = time.process_time() - began
    assert len(text.encode()) < MOST_BYTES
    assert text.count("<") / 2 < MOST_ELEMENTS
    file = tmp_path / "report.html"
    file.write_text(text, encoding="utf-8")
    tab = browser.new_context(offline=True).new_page()
    began = time.monotonic()
    tab.goto(file.as_uri())
    tab.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    opened = time.monotonic() - began
    assert tab.evaluate("document.querySelectorAll('*').length") < MOST_ELEMENTS
    print(f"\n{built:.2f} s of CPU, {len(text) / 1e6:.2f} MB, opens in {opened:.2f} s")


def test_a_table_reads_each_file_as_often_as_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = stored(tmp_path / "run", tasks=5, methods=4, seeds=5)
    monkeypatch.setattr("harness.runs.store.cells.result_problem", refused)
    began = time.process_time()
    with reads(monkeypatch) as counted:
        result = CliRunner().invoke(main, ["table", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    spent = time.process_time() - began
    print(f"\n{len(cells)} cells: {spent:.2f} s of CPU")
    assert {name: count / len(cells) for name, count in counted.items()} == {
        "result.json": 1,
        "timing.json": 1,
        "provenance.json": 1,
        "examples.safetensors": pytest.approx(1, abs=0.06),  # the verdict reads one a table again
    }


def refused(result: object) -> str | None:
    raise AssertionError("results that were checked when they were published are checked again")
