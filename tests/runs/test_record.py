"""The record of a run: what belongs to its tables."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_cells import a_cell, a_method, a_task, output

from harness.errors import HarnessError, NotFound, StoreCorrupt
from harness.runs.plan import Plan
from harness.runs.store import CellStore
from harness.runs.store.record import (
    by_beginning,
    entries_of,
    faults_of,
    find_run,
    load_cells,
    record,
    runs_root,
)


def plan(*cells: Any) -> Plan:
    return Plan("run", cells)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_asking_again_replaces_a_point_and_keeps_the_others(folder: Path) -> None:
    one = a_cell(a_task("one"), a_method("a"))
    two = a_cell(a_task("two"), a_method("a"))
    record(folder, plan(one, two))
    changed = a_cell(a_task("one", version="2"), a_method("a"))
    added = a_cell(a_task("one"), a_method("b"))
    record(folder, plan(changed, added))
    # The changed cell stands in its old place, and the new one beside its task.
    assert [e.id for e in entries_of(folder)] == [changed.id, added.id, two.id]


def test_the_version_asked_for_last_comes_last(folder: Path) -> None:
    """Also where its cells were there before: tables rank the last version of a task."""
    old = [a_cell(a_task(), a_method(m)) for m in ("a", "b")]
    new = [a_cell(a_task(version="2"), a_method(m)) for m in ("a", "b")]
    record(folder, plan(*old))
    record(folder, plan(new[1]))
    assert [e.id for e in entries_of(folder)] == [old[0].id, new[1].id]
    record(folder, plan(old[0]))
    assert [e.id for e in entries_of(folder)] == [new[1].id, old[0].id]
    record(folder, plan(*new))
    assert {e.id for e in entries_of(folder)} == {new[0].id, new[1].id}


def test_evaluations_that_a_suite_has_no_more_leave_its_record(folder: Path) -> None:
    """Edited `evaluations`: the old ones' entries go, those of methods not asked for stay."""

    def cells(ablations: tuple[str, ...], methods: tuple[str, ...], task: str = "toy") -> list[Any]:
        return [
            a_cell(
                a_task(task, evaluation=replace(a_task().evaluation, ablation=ablation)),
                a_method(method),
                variant=f"ablation {ablation}",
            )
            for ablation in ablations
            for method in methods
        ]

    other = cells(("zero",), ("a",), task="other")
    record(folder, plan(*cells(("zero", "mean"), ("a", "b")), *other))
    record(folder, plan(*cells(("mean", "resample"), ("a",))))
    left = [(e.task, e.variant, e.method) for e in entries_of(folder)]
    assert left == [
        ("toy", "ablation mean", "a"),
        ("toy", "ablation mean", "b"),
        ("toy", "ablation resample", "a"),
        ("other", "ablation zero", "a"),
    ]
    record(folder, plan(a_cell(a_task(), a_method("a"))))
    assert [e.variant for e in entries_of(folder)] == ["", "ablation zero"]


def test_what_a_suite_excludes_for_one_method_stays_for_the_others(folder: Path) -> None:
    few = replace(a_cell(a_task("one"), a_method("a")), variant="few")
    many = replace(a_cell(a_task("one"), a_method("a"), seed=1), variant="many")
    slow = replace(a_cell(a_task("one"), a_method("slow")), variant="few")
    grid = frozenset({("one", "few"), ("one", "many")})
    record(folder, Plan("run", (few, many, slow), grid))
    record(folder, Plan("run", (slow,), grid))  # asked for by itself
    assert {e.id for e in entries_of(folder)} == {few.id, many.id, slow.id}


def test_smoke_cells_stand_beside_full_ones(folder: Path) -> None:
    record(folder, plan(a_cell(), a_cell(limit=4)))
    assert [e.limit for e in entries_of(folder)] == [None, 4]


def test_a_cell_whose_model_is_called_otherwise_stands_there_once(folder: Path) -> None:
    cell, other = a_cell(), a_cell(seed=1)
    record(folder, plan(cell, other))
    renamed = replace(cell, model_name="gpt2")
    assert renamed.id == cell.id
    record(folder, plan(renamed))
    assert sorted((entry.seed, entry.model) for entry in entries_of(folder)) == [
        (0, "gpt2"),
        (1, other.model_name),
    ]


def test_recording_twice_writes_the_same_bytes(folder: Path) -> None:
    record(folder, plan(a_cell()))
    before = (folder / "plan.json").read_bytes()
    record(folder, plan(a_cell()))
    assert (folder / "plan.json").read_bytes() == before


def test_loading_tells_the_state_of_each_cell(folder: Path) -> None:
    cells = [a_cell(method=a_method(name)) for name in ("done", "failed", "missing")]
    cells.append(a_cell(limit=4))
    record(folder, plan(*cells))
    store = CellStore(folder)
    for cell in (cells[0], cells[3]):
        store.publish(cell.id, output(cell), {})
    store.fail(cells[1].id, {}, "killed")
    found = load_cells(folder)
    assert [cell.status for cell in found] == ["ok", "failed", "missing", "smoke"]
    assert found[0].result is not None
    assert found[1].failure is not None


def test_runs_are_found_by_name_or_path(folder: Path, tmp_path: Path) -> None:
    record(folder, plan(a_cell()))
    assert runs_root(tmp_path) == [folder]
    assert find_run(tmp_path, "run") == folder
    assert find_run(Path("elsewhere"), str(folder)) == folder
    with pytest.raises(NotFound, match="runs there: run"):
        find_run(tmp_path, "walk")
    assert runs_root(tmp_path / "nothing") == []


def test_a_cell_is_found_by_the_beginning_of_its_id() -> None:
    cells = {"abc1": "one", "abd2": "two", "b": "three"}
    assert by_beginning(cells, "abc", "none") == "one"
    assert by_beginning(cells, "b", "none") == "three"
    with pytest.raises(HarnessError, match="'ab' begins 2 ids: abc1, abd2; give more characters"):
        by_beginning(cells, "ab", "none")
    for nothing in ("", "c", "abc12"):
        with pytest.raises(NotFound, match="nowhere"):
            by_beginning(cells, nothing, "nowhere")


@pytest.mark.parametrize("text", ["{", "{}", '{"cells": [{}]}', "[]"])
def test_a_broken_record_is_named(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "plan.json").write_text(text)
    with pytest.raises(StoreCorrupt, match=r"plan\.json"):
        entries_of(folder)


# ---------------------------------------------------------------- what is written is what is read
def unsealed(folder: Path, **changes: Any) -> None:
    """Write the record as it was before there were seals, with changes of its first entry."""
    path = folder / "plan.json"
    document = json.loads(path.read_bytes())
    del document["seal"]
    document["schema_version"] = 1
    document["cells"][0] |= changes
    path.write_text(json.dumps(document))


def test_a_record_without_a_seal_is_read_and_gets_one(folder: Path) -> None:
    cell = a_cell()
    record(folder, plan(cell))
    entries, content = entries_of(folder), (folder / "plan.json").read_bytes()
    CellStore(folder).publish(cell.id, output(cell), {})
    unsealed(folder)
    assert entries_of(folder) == entries
    assert [one.status for one in load_cells(folder)] == ["ok"]
    record(folder, plan(cell))
    assert (folder / "plan.json").read_bytes() == content


def test_a_record_of_version_2_must_have_its_seal(folder: Path) -> None:
    record(folder, plan(a_cell()))
    path = folder / "plan.json"
    for old, new in (('"seal"', '"zeal"'), ('"eap"', '"eat"'), ("schema_v", "schema_w")):
        content = path.read_text()
        assert old in content
        path.write_text(content.replace(old, new))
        with pytest.raises(StoreCorrupt, match="run the suite again: finished cells are kept"):
            entries_of(folder)
        path.write_text(content)
    assert len(entries_of(folder)) == 1


@pytest.mark.parametrize("changes", [{"seed": 7}, {"limit": 3}, {"id": "0" * 64}])
def test_old_entries_that_are_not_those_of_their_cells_are_refused(
    folder: Path, changes: dict[str, Any]
) -> None:
    record(folder, plan(a_cell()))
    unsealed(folder, **changes)
    with pytest.raises(StoreCorrupt, match="is not the id of its cell"):
        entries_of(folder)


@pytest.mark.parametrize("name", ["task", "model", "method", "model_id"])
def test_labels_of_an_old_record_are_compared_with_the_result(folder: Path, name: str) -> None:
    cell = a_cell()
    record(folder, plan(cell))
    CellStore(folder).publish(cell.id, output(cell), {})
    unsealed(folder, **{name: "another"})
    (one,) = load_cells(folder)
    assert one.status == "damaged"
    assert one.result is None
    (fault,) = faults_of([one])
    assert f"says that {name} of cell {cell.id[:12]} is 'another'" in fault


def test_names_may_change_after_a_cell_was_computed(folder: Path) -> None:
    """A renamed model gives the same cell; the record, which has a seal, calls it as it is now."""
    cell = a_cell()
    record(folder, plan(cell))
    CellStore(folder).publish(cell.id, output(cell), {})
    record(folder, plan(replace(cell, model_name="renamed")))
    (one,) = load_cells(folder)
    assert (one.status, one.entry.model) == ("ok", "renamed")
    assert one.result is not None
    assert one.result["model"] != "renamed"
