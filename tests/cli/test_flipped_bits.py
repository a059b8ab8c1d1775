"""A flipped bit in any stored file changes no number that is shown without exit 3."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import StoreCorrupt
from harness.reports.resample import examples
from harness.reports.rows import rows
from harness.runs.store import ModelStore
from harness.runs.store.record import faults_of, load_cells

RESULTS, RUN = Path("results"), Path("results/trial")


def stored_files() -> list[Path]:
    """All files that anything reads: locks are empty, and `run.log` is for people alone."""
    files = (path for path in RESULTS.rglob("*") if path.is_file() and path.name != "run.log")
    return sorted(path for path in files if path.stat().st_size)


@contextmanager
def flipped(path: Path, place: int, bit: int) -> Iterator[None]:
    content = path.read_bytes()
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(content)


@pytest.fixture
def stored(harness: Any) -> Any:
    """A run of two methods, a control, and a cell that failed."""
    harness.method("bad", fail="no luck at 0.75")
    harness.suite("trial", ["toy"], ["good", "weak", "bad"])
    harness("run", "trial", code=1)
    return harness


def shown() -> dict[str, tuple[str, Any]]:
    """Per cell its state and all that tables and plots are made of; or StoreCorrupt."""
    cells = load_cells(RUN)
    numbers = {}
    for cell in cells:
        arrays = [] if cell.result is None else list(vars(examples(cell)).values())
        measured = [array.tolist() for array in arrays if isinstance(array, np.ndarray)]
        why = cell.failure and cell.failure["error"]["message"]
        numbers[cell.entry.id] = (cell.status, json.dumps([rows([cell]), measured, why]))
    assert bool(faults_of(cells)) == any(status == "damaged" for status, _ in numbers.values())
    return numbers


def test_no_number_changes_and_only_the_damaged_cell_is_missing(stored: Any) -> None:
    """Bits all over every file of a run."""
    before, rng, noticed = shown(), np.random.default_rng(0), dict[str, int]()
    for path in stored_files():
        if path.is_relative_to(RESULTS / "models"):
            continue
        size = path.stat().st_size
        for place in {0, size - 1, *rng.integers(size, size=18).tolist()}:
            with flipped(path, place, int(rng.integers(8))):
                try:
                    after = shown()
                except StoreCorrupt as error:
                    assert path.name == "plan.json"
                    assert str(path) in str(error)  # noqa: PT017
                    noticed[path.name] = noticed.get(path.name, 0) + 1
                    continue
            assert after.keys() == before.keys()
            changed = {name for name in before if after[name] != before[name]}
            assert changed <= {path.parent.name, path.stem}
            assert all(after[name][0] == "damaged" for name in changed)
            noticed[path.parent.name] = noticed.get(path.parent.name, 0) + len(changed)
    # Each cell has four files that tables are made of, and their digests in the manifest.
    assert noticed.pop("plan.json") >= 18
    assert noticed.pop("failures") >= 18
    assert len(noticed) == 3
    assert all(count >= 4 * 18 for count in noticed.values())


def test_verify_finds_a_flipped_bit_in_any_file(stored: Any) -> None:
    """In those of models too."""
    stored("verify")
    rng = np.random.default_rng(1)
    for path in stored_files():
        with flipped(path, int(rng.integers(path.stat().st_size)), 3):
            # Where a name in the manifest is another one, it is that file which is missing.
            name = path.parent.name if path.name == "manifest.json" else path.name
            assert name in stored("verify", code=3).stderr, path


NAMES = ("result.json", "timing.json", "provenance.json", "manifest.json", "examples.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_tables_mark_a_damaged_cell_and_show_the_rest(stored: Any, name: str) -> None:
    cell = next(one for one in load_cells(RUN) if one.entry.method == "weak")
    path = RUN / "cells" / cell.entry.id / name
    before = stored("table", "trial").stdout.splitlines()
    with flipped(path, path.stat().st_size // 2, 0):
        result = stored("table", "trial", code=3)
        lines = result.stdout.splitlines()
        (line,) = (line for line in lines if " weak " in line)
        assert "0/1" in line
        assert "\nweak: 1 damaged.\n" in result.stdout
        assert result.stderr.count("corrupt: ") == 1
        assert path.parent.name in result.stderr
        assert name in result.stderr
        rest = [line.split() for line in before if {"paths", "good", "whole"} & {*line.split()}]
        assert len(rest) == 3
        assert all(line in [other.split() for other in lines] for line in rest)
        full = json.loads(stored("table", "--full", "--format", "json", code=3).stdout)
        assert {row["method"]: row["status"] for row in full} == {
            "good": "ok",
            "weak": "damaged",
            "paths": "ok",
            "bad": "failed",
        }
        assert "\nweak: 1 damaged.\n" in stored("run", "trial", code=3).stdout


def test_the_other_runs_are_shown_where_a_record_is_damaged(stored: Any) -> None:
    stored("run", "quickstart")
    with flipped(RUN / "plan.json", 40, 0):
        result = stored("table", code=3)
        assert result.stdout.count("| good") == 1
        assert "plan.json" in result.stderr
        assert "trial/plan.json" in stored("table", "trial", code=3).stderr
        assert "delete it and run the suite again" in stored("run", "trial", code=3).stderr


def test_compare_names_damaged_cells_and_compares_the_rest(stored: Any) -> None:
    stored("run", "trial", "--seeds", "0,1", code=1)
    compared = ("compare", "trial:good", "trial:weak")
    assert "Damaged" not in stored(*compared).stdout
    cells = [one for one in load_cells(RUN) if one.entry.method == "weak"]
    paths = [RUN / "cells" / one.entry.id / "examples.safetensors" for one in cells]
    with flipped(paths[0], 300, 1):
        result = stored(*compared, code=3)
        assert f"Damaged, left out: toy model-toy weak seed 0 ({cells[0].entry.id[:12]})" in (
            result.stdout
        )
        data = json.loads(stored(*compared, "--json", code=3).stdout)
        assert [task["seeds"] for task in data["tasks"]] == [1]
        assert len(data["damaged"]) == 1
        with flipped(paths[1], 300, 1):
            result = stored(*compared, code=3)
            assert result.stdout == ""
            assert "is not what was published" in result.stderr


def test_plots_say_what_they_leave_out(stored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    titles: list[str] = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda _, text, **__: titles.append(text))
    cell = next(one for one in load_cells(RUN) if one.entry.method == "weak")
    with flipped(RUN / "cells" / cell.entry.id / "result.json", 300, 1):
        stored("plot", "curves", "trial", "-o", "out.svg", code=3)
    assert titles == ["toy on model-toy (1 damaged, left out)"]


def test_judge_and_export_refuse_a_damaged_cell_and_a_damaged_model(measuring: Any) -> None:
    harness = measuring
    harness.method("good")
    path = harness.folder / "specs/methods/good.yaml"
    path.write_text(path.read_text().replace("kind: fake", "kind: eap"))
    harness.suite("trial", ["toy"], ["good"])
    harness("run", "trial", "--methods", "good")
    cell = next(one.entry.id for one in load_cells(RUN) if one.entry.method == "good")

    def judge(code: int) -> Any:
        return harness("judge", cell[:12], "--tests", "none", "--json", code=code)

    before = judge(0).stdout
    models = ModelStore(RESULTS / "models")
    files = sorted((RUN / "cells" / cell).iterdir())
    assert len(files) == 9
    for path in (*files, models.path(models.ids()[0]) / "model.safetensors"):
        with flipped(path, path.stat().st_size // 2, 2):
            result = judge(3)
            assert result.stdout == ""
            assert path.name in result.stderr
    with flipped(RUN / "cells" / cell / "circuit.safetensors", 400, 2):
        harness("export", "trial", "--method", "good", "--to", "out", code=3)
    assert judge(0).stdout == before
