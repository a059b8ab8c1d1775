"""A cell on a machine without its files: packed, unpacked elsewhere, the same cell and numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.file_task import write_file_task

from harness.datasets.locate import locate, unpacked
from harness.errors import HarnessError, NotFound
from harness.runs.executors.ray.luggage import Luggage, files_of, pack
from harness.runs.executors.ray.remote import Broken, Computed, Desk, compute, make_model
from harness.runs.executors.session import COMPUTE
from harness.runs.executors.worker import Event
from harness.runs.plan import Cell, expand
from harness.runs.plan.cells import remade
from harness.spec.load import Library


def cells_of(suite: Path | str) -> tuple[Cell, ...]:
    library = Library()
    return expand(library.suite(str(suite)), library).cells


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return cells_of(write_file_task(tmp_path / "mine"))[0]


def computed(cell: Cell, place: Path, luggage: Any) -> Any:
    events: list[Event] = []
    sent_by = {"argv": ["harness", "run", "letters"]}
    return compute(Desk(COMPUTE, sent_by, place), events.append, cell, luggage, None, None)


def test_a_cell_is_computed_where_its_files_are_not(cell: Cell, tmp_path: Path) -> None:
    luggage = pack(files_of(cell))
    here = computed(cell, tmp_path / "near", luggage)
    (tmp_path / "mine").rename(tmp_path / "gone")
    there = computed(cell, tmp_path / "far", luggage)
    assert isinstance(here, Computed)
    assert isinstance(there, Computed)
    assert there.output.result == here.output.result
    assert there.output.tensors == here.output.tensors
    assert there.provenance["argv"] == ["harness", "run", "letters"]


def test_a_relative_folder_is_so_to_the_machine_that_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file_task(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    cell = replace(cells_of("letters.yaml")[0])
    task = replace(cell.task, folder=Path("tasks"))
    cell = replace(cell, task=task, model_folder=Path("tasks"))
    luggage = pack(files_of(cell))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").rename(tmp_path / "gone")
    assert isinstance(computed(cell, tmp_path / "far", luggage), Computed)


def test_files_that_users_bring_are_looked_for_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(name)
    monkeypatch.setenv("HARNESS_FILES", f"{tmp_path / 'two'}:{tmp_path / 'one'}")
    luggage = pack([tmp_path / "one" / "tokenizer.json", tmp_path / "two" / "tokenizer.json"])
    monkeypatch.delenv("HARNESS_FILES")
    (tmp_path / "one").rename(tmp_path / "gone")
    (tmp_path / "two").rename(tmp_path / "gone too")
    luggage.unpack(tmp_path / "root")
    with unpacked(tmp_path / "root", [Path(one) for one in luggage.folders]):
        assert locate("tokenizer.json", tmp_path / "task").read_text() == "two"
    with pytest.raises(NotFound):
        locate("tokenizer.json", tmp_path / "task")


def test_luggage_of_another_content_is_another_cell(cell: Cell, tmp_path: Path) -> None:
    luggage = pack(files_of(cell))
    changed = {
        path: content.replace(b"a b", b"b a") if path.endswith(".jsonl") else content
        for path, content in luggage.files.items()
    }
    outcome = computed(cell, tmp_path / "far", replace(luggage, files=changed))
    assert isinstance(outcome, Broken)
    assert "task.files.data/prompts.jsonl" in outcome.text


def test_shipped_cells_are_the_same_from_their_luggage(tmp_path: Path) -> None:
    """Shipped weights, corpora with tokenizers, dictionaries, and models trained on the spot."""
    cells = [*cells_of("quickstart"), *cells_of("controls")]
    kinds = {(cell.model_id, cell.dictionaries and cell.dictionaries.id): cell for cell in cells}
    assert any(cell.dictionaries for cell in kinds.values())
    assert any(cell.trains for cell in kinds.values())
    for number, cell in enumerate(kinds.values()):
        root, luggage = tmp_path / str(number), pack(files_of(cell))
        luggage.unpack(root)
        assert is_same(cell, root, luggage)
        # What is read is read there: without it there is no such cell.
        for path in luggage.files:
            place = root / path.lstrip("/")
            if place.suffix == ".safetensors" or place.name == "tokenizer.json":
                place.write_bytes(b"{}")
                assert not is_same(cell, root, luggage)


def is_same(cell: Cell, root: Path, luggage: Luggage) -> bool:
    with unpacked(root, [Path(one) for one in luggage.folders]):
        try:
            return remade(cell).id == cell.id
        except HarnessError:
            return False


def test_other_code_is_refused_by_name(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    luggage = pack(files_of(cell))
    monkeypatch.setattr("harness.runs.plan.cells.SEMANTICS_VERSION", 99)
    outcome = computed(cell, tmp_path / "far", luggage)
    assert isinstance(outcome, Broken)
    assert "gives this cell another id" in outcome.text
    assert "code was 2, and is 99 here" in outcome.text
    model = make_model(Desk(COMPUTE, {}, tmp_path / "far"), lambda event: None, cell, luggage)
    assert isinstance(model, Broken)
    assert not (tmp_path / "far" / "models").exists()
