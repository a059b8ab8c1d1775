"""The store: what is there is whole, and faults never leave half a cell."""

import errno
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import (
    booleans,
    data,
    dictionaries,
    integers,
    just,
    lists,
    none,
    one_of,
    text,
)
from support.fake_cells import a_cell, a_method, output

from harness.errors import StoreCorrupt
from harness.runs.store import CellStore, atomic
from harness.runs.store.locks import lock, try_lock
from harness.runs.store.sealed import read_sealed_json, sealed_json

PROVENANCE = {"argv": ["harness"]}


@pytest.fixture
def store(tmp_path: Path) -> CellStore:
    return CellStore(tmp_path / "run")


def publish(store: CellStore, cell: Any, **kwargs: Any) -> None:
    with store.claim(cell.id) as held:
        assert held
        store.publish(cell.id, output(cell, **kwargs), PROVENANCE)


def test_published_cell_reads_back_and_verifies(store: CellStore) -> None:
    cell = a_cell()
    assert not store.has(cell.id)
    publish(store, cell)
    assert store.has(cell.id)
    assert store.ids() == [cell.id]
    result = store.result(cell.id)
    assert result["cell"] == cell.id
    assert result["identity"] == cell.identity
    assert store.timing(cell.id)["seconds"] == 1.5
    assert store.provenance(cell.id) == PROVENANCE
    tensors = store.tensors(cell.id, "examples.safetensors")
    np.testing.assert_array_equal(
        tensors["whole/metric"], output(cell).tensors["examples.safetensors"]["whole/metric"]
    )
    store.verify(cell.id)


def test_result_file_is_sorted_json_with_a_final_newline(store: CellStore) -> None:
    cell = a_cell()
    publish(store, cell)
    content = (store.cells / cell.id / "result.json").read_text()
    assert content.endswith("}\n")
    assert list(json.loads(content)) == sorted(json.loads(content))


def test_publishing_the_same_again_drops_ours(store: CellStore) -> None:
    cell = a_cell()
    publish(store, cell)
    before = (store.cells / cell.id / "result.json").stat().st_ino
    publish(store, cell)
    assert (store.cells / cell.id / "result.json").stat().st_ino == before
    assert list(store.work.iterdir()) == []


def test_publishing_other_numbers_under_one_id_is_refused(store: CellStore) -> None:
    cell = a_cell()
    publish(store, cell)
    before = (store.cells / cell.id / "result.json").read_bytes()
    with pytest.raises(StoreCorrupt, match="not reproducible"):
        publish(store, cell, good=0.9)
    assert (store.cells / cell.id / "result.json").read_bytes() == before
    assert list(store.work.iterdir()) == []


def test_nan_is_a_bug_of_the_computation_not_a_broken_file(store: CellStore) -> None:
    cell = a_cell()
    bad = output(cell)
    bad.result["summary"]["cmd"]["value"] = float("nan")
    with store.claim(cell.id), pytest.raises(ValueError, match=r"JSON|nan"):
        store.publish(cell.id, bad, PROVENANCE)
    assert not store.has(cell.id)


def test_result_must_keep_its_schema_when_written(store: CellStore) -> None:
    cell = a_cell()
    bad = output(cell)
    bad.result["seed"] = "zero"
    with store.claim(cell.id), pytest.raises(ValueError, match="seed"):
        store.publish(cell.id, bad, PROVENANCE)
    assert not store.has(cell.id)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("result.json", b"{", "is not what was published"),
        ("examples.safetensors", b"x", "is not what was published"),
        ("circuit.safetensors", None, "missing"),
        ("timing.json", None, "missing"),
        ("provenance.json", b"\xff", "is not what was published"),
        ("manifest.json", None, "missing"),
        ("manifest.json", b"[]", "no manifest"),
        ("manifest.json", b"\xff", "not valid JSON"),
        ("new.json", b"{}", "was not published"),
    ],
)
def test_damage_is_found_and_the_file_named(
    store: CellStore, name: str, content: bytes | None, said: str
) -> None:
    cell = a_cell()
    publish(store, cell)
    path = store.cells / cell.id / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match=said) as caught:
        store.verify(cell.id)
    assert name in str(caught.value)
    assert caught.value.exit_code == 3


def test_result_of_another_cell_is_found(store: CellStore) -> None:
    one, two = a_cell(seed=0), a_cell(seed=1)
    publish(store, one)
    (store.cells / one.id).rename(store.cells / two.id)
    with pytest.raises(StoreCorrupt, match="another cell"):
        store.result(two.id)


def test_tensors_are_checked_on_read(store: CellStore) -> None:
    cell = a_cell()
    publish(store, cell)
    path = store.cells / cell.id / "examples.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match="is not what was published"):
        store.tensors(cell.id, "examples.safetensors")


def test_a_claim_is_exclusive_and_free_again_after(store: CellStore) -> None:
    with store.claim("c") as first:
        assert first
        assert store.is_claimed("c")
        with store.claim("c") as second:
            assert not second
    assert not store.is_claimed("c")
    with store.claim("c") as third:
        assert third


def test_failure_is_recorded_replaced_and_removed_by_success(store: CellStore) -> None:
    cell = a_cell()
    assert store.failure(cell.id) is None
    assert store.failure_mark(cell.id) is None
    try:
        raise RuntimeError("no memory left")
    except RuntimeError as error:
        store.fail(cell.id, cell.labels(), error)
    failure = store.failure(cell.id)
    assert failure is not None
    assert failure["task"] == "toy"
    assert failure["error"]["type"] == "RuntimeError"
    assert failure["error"]["message"] == "no memory left"
    assert any("no memory left" in line for line in failure["error"]["traceback"])
    mark = store.failure_mark(cell.id)
    store.fail(cell.id, cell.labels(), "killed")
    assert store.failure_mark(cell.id) != mark
    publish(store, cell)
    assert store.failure(cell.id) is None


def test_clean_removes_leftovers_but_not_what_is_being_written(store: CellStore) -> None:
    for name in ("dead", "alive"):
        (store.work / name).mkdir(parents=True)
        (store.work / name / "half").write_text("x")
    with try_lock(store.locks / "alive.lock"):
        store.clean()
    assert [path.name for path in store.work.iterdir()] == ["alive"]


@pytest.mark.parametrize("age", [0, 1e6, -1e6], ids=["now", "old", "of tomorrow"])
def test_drafts_go_when_their_writer_is_dead_whatever_the_clock_says(
    store: CellStore, age: float
) -> None:
    store.failures.mkdir(parents=True)
    dead, alive = store.failures / ".dead.json.1", store.failures / ".alive.json.2"
    for draft in (dead, alive):
        draft.write_text("{")
        os.utime(draft, (time.time() - age,) * 2)
    with try_lock(store.locks / "alive.lock"):
        store.clean()
    assert [path.name for path in store.failures.iterdir()] == [alive.name]


def test_a_failure_of_a_finished_cell_is_none(store: CellStore) -> None:
    """Neither recorded, nor kept where a kill came between the two."""
    cell = a_cell()
    publish(store, cell)
    store.fail(cell.id, {}, "too late")
    assert store.failure(cell.id) is None
    store.failures.mkdir()
    (store.failures / f"{cell.id}.json").write_text("{}")
    store.clean()
    assert list(store.failures.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_refused_in_one_line(
    store: CellStore, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", no_locks)
    for take in (lock, try_lock):
        with (
            pytest.raises(OSError, match="must lie on a file system that has them") as refused,
            take(store.locks / "x.lock"),  # type: ignore[operator]
        ):
            raise AssertionError("not reached")
        assert refused.value.errno == number
        assert refused.value.filename == str(store.locks / "x.lock")
        assert os.strerror(number) in refused.value.strerror


@given(data())
@settings(max_examples=60)
def test_a_sealed_file_is_read_as_it_was_written_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, chance: Any
) -> None:
    """Any JSON object; any byte of its file changed."""
    texts = text(max_size=8)
    leaves = one_of(none(), booleans(), integers(), texts, just("0" * 64), just('\n "seal": "x'))
    keys = one_of(texts, just("seal "), just("zeal"))
    document = chance.draw(dictionaries(keys, lists(leaves, max_size=3) | leaves, max_size=4))
    path = tmp_path_factory.getbasetemp() / "sealed.json"
    content = sealed_json(document)
    assert content == sealed_json(document)
    assert json.loads(content).keys() == document.keys() | {"seal"}
    path.write_bytes(content)
    assert read_sealed_json(path, "do so", without_seal=1) == document
    place = chance.draw(integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[place] ^= chance.draw(integers(1, 255))
    path.write_bytes(changed)
    with pytest.raises(StoreCorrupt, match=r"sealed\.json"):
        read_sealed_json(path, "do so", without_seal=1)


def test_replacing_a_file_keeps_the_old_one_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.json"
    atomic.replace_file(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        atomic.replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


def test_random_histories_match_a_model(tmp_path: Path) -> None:
    """Publish, fail, kill and clean in any order: the store says what a plain dict says."""
    rng = random.Random(0)
    cells = [a_cell(method=a_method(f"m{i}")) for i in range(3)]
    for history in range(10):
        store = CellStore(tmp_path / str(history))
        done: set[str] = set()
        failed: set[str] = set()
        for _ in range(12):
            cell = rng.choice(cells)
            step = rng.choice(["publish", "fail", "kill", "clean"])
            if step == "publish":
                publish(store, cell)
                done.add(cell.id)
                failed.discard(cell.id)
            elif step == "fail" and cell.id not in done:
                store.fail(cell.id, cell.labels(), "x")
                failed.add(cell.id)
            elif step == "kill":
                (store.work / cell.id).mkdir(parents=True, exist_ok=True)
            elif step == "clean":
                store.clean()
            assert set(store.ids()) == done
            assert {c.id for c in cells if store.failure(c.id)} == failed
        for cell_id in done:
            store.verify(cell_id)
