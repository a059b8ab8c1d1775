"""Results folders made one: everything arrives, nothing is overwritten, conflicts are named."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from support.fake_cells import a_cell, a_method, a_task, compute, output

from harness.errors import HarnessError
from harness.reports.provenance import machines
from harness.runs.plan import Plan
from harness.runs.store import CellStore
from harness.runs.store.joining import join
from harness.runs.store.record import entries_of, load_cells, model_store, record
from harness.runs.store.sealed import MANIFEST, seal_folder

HERE = {"cpu": "One", "cores": 2, "created": "2026-01-01", "git": None, "versions": {}}
THERE = {**HERE, "cpu": "Two", "cores": 64}


def fill(
    results: Path,
    cells: Iterable[Any],
    *,
    where: dict[str, Any] = HERE,
    good: float | None = None,
    failed: Iterable[Any] = (),
) -> Path:
    """A results folder with one run, computed on some machine."""
    folder = results / "run"
    store = CellStore(folder)
    cells, failed = list(cells), list(failed)
    for cell in cells:
        compute(cell, model_store(results), print)
        with store.claim(cell.id):
            store.publish(cell.id, output(cell, good), where)
    for cell in failed:
        store.fail(cell.id, {}, RuntimeError("no memory"))
    record(folder, Plan("run", (*cells, *failed)))
    return results


def every_byte(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def two() -> tuple[Any, Any]:
    return a_cell(a_task("one"), a_method("a")), a_cell(a_task("two"), a_method("b"))


def test_joined_folders_equal_one_that_computed_all(tmp_path: Path, two: tuple[Any, Any]) -> None:
    one, other = two
    a, b = fill(tmp_path / "a", [one]), fill(tmp_path / "b", [other])
    both = fill(tmp_path / "both", [one, other])
    for source in (a, b):
        joined = join(source, tmp_path / "all")
        assert (joined.cells, joined.conflicts, joined.faults) == (1, [], [])
    ours, theirs = every_byte(tmp_path / "all"), every_byte(both)
    assert ours == theirs
    again = join(a, tmp_path / "all")
    assert (again.cells, again.models, again.same) == (0, 0, 2)
    assert every_byte(tmp_path / "all") == theirs


def test_failures_and_what_is_missing_arrive_and_a_result_replaces_them(
    tmp_path: Path, two: tuple[Any, Any]
) -> None:
    one, other = two
    failed = fill(tmp_path / "a", [one], failed=[other])
    into = tmp_path / "all"
    join(failed, into)
    assert {cell.status for cell in load_cells(into / "run")} == {"ok", "failed"}
    join(fill(tmp_path / "b", [other]), into)
    assert [cell.status for cell in load_cells(into / "run")] == ["ok", "ok"]
    assert not list((into / "run" / "failures").glob("*.json"))
    join(failed, into)  # a failure elsewhere says nothing against a result
    assert [cell.status for cell in load_cells(into / "run")] == ["ok", "ok"]


def test_other_numbers_of_one_cell_are_a_conflict(tmp_path: Path, two: tuple[Any, Any]) -> None:
    into = fill(tmp_path / "a", two)
    before = every_byte(into)
    joined = join(fill(tmp_path / "b", [two[0]], good=0.9), into)
    assert len(joined.conflicts) == 1
    assert two[0].id[:12] in joined.conflicts[0]
    assert "other numbers" in joined.conflicts[0]
    assert every_byte(into) == before


def test_cells_of_another_training_are_left_out(tmp_path: Path) -> None:
    """The same spec trained to other weights elsewhere: its numbers are not of the model here."""
    into = fill(tmp_path / "a", [a_cell(method=a_method("a"))])
    cell = a_cell(method=a_method("b"))
    source = fill(tmp_path / "b", [cell])
    weights = model_store(source).path(cell.model_id)
    (weights / "weights").write_text("rounded otherwise")
    seal_folder(weights)
    joined = join(source, into)
    assert joined.cells == 0
    assert [text.partition(" ")[0] for text in joined.conflicts] == ["model", "b"]
    assert len(entries_of(into / "run")) == 1


def test_a_point_under_other_conditions_is_a_conflict(tmp_path: Path) -> None:
    into = fill(tmp_path / "a", [a_cell(a_task())])
    joined = join(fill(tmp_path / "b", [a_cell(a_task(version="2"))]), into)
    assert joined.cells == 0
    assert "something that can move the numbers differs" in joined.conflicts[0]


def test_damaged_cells_are_named_and_left_out(tmp_path: Path, two: tuple[Any, Any]) -> None:
    source = fill(tmp_path / "a", two)
    victim = source / "run" / "cells" / two[0].id / "circuit.safetensors"
    victim.write_bytes(b"x" + victim.read_bytes()[1:])
    joined = join(source, tmp_path / "all")
    assert joined.cells == 1
    assert len(joined.faults) == 1
    assert str(victim) in joined.faults[0]
    assert [entry.id for entry in entries_of(tmp_path / "all" / "run")] == [two[1].id]


def test_a_foreign_manifest_reaches_no_file_outside(tmp_path: Path, two: tuple[Any, Any]) -> None:
    source, secret = fill(tmp_path / "a", [two[0]]), tmp_path / "secret"
    secret.write_text("mine")
    model = model_store(source).path(two[0].model_id)
    shutil.copy(secret, model / "copy")
    seal_folder(model)
    manifest = json.loads((model / MANIFEST).read_text())
    manifest["../../../secret"] = manifest.pop("copy")
    (model / "copy").unlink()
    (model / MANIFEST).write_text(json.dumps(manifest))
    secret.chmod(0o600)
    joined = join(source, tmp_path / "all")
    assert any("is not below its folder" in fault for fault in joined.faults), joined
    assert [p for p in tmp_path.rglob("secret") if p != secret] == []


def test_a_run_or_another_folder_is_needed(tmp_path: Path, two: tuple[Any, Any]) -> None:
    with pytest.raises(HarnessError, match="holds no run"):
        join(tmp_path, tmp_path / "all")
    source = fill(tmp_path / "a", two)
    with pytest.raises(HarnessError, match="into itself"):
        join(source, source)


def test_tables_say_which_machine_made_what(tmp_path: Path, two: tuple[Any, Any]) -> None:
    into = fill(tmp_path / "a", [two[0]])
    assert machines(load_cells(into / "run")) == ""
    join(fill(tmp_path / "b", [two[1]], where=THERE), into)
    lines = machines(load_cells(into / "run")).splitlines()
    assert [line.split("|")[1].strip() for line in lines[3:]] == ["One, 2 cores", "Two, 64 cores"]
    assert "b (0)" in lines[4]
