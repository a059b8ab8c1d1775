"""Before the first cell of a task and model, one line says what the corruption does to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_cells import a_cell, a_method, a_model, a_task, loaded

from harness.evaluation.verdict import with_half_width
from harness.runs.compute import effect
from harness.runs.compute.cell import compute_cell
from harness.runs.compute.last import Last
from harness.runs.executors.session import Session, Settings
from harness.runs.executors.worker import Event
from harness.runs.plan import Cell, ModelSource, Plan, make_cell
from harness.runs.store import CellStore
from harness.runs.store.models import ModelStore
from harness.spec.types import Runtime


def cell_of(method: str, **evaluation: Any) -> Cell:
    task = a_task()
    task = replace(task, evaluation=replace(task.evaluation, test_pairs=16, **evaluation))
    source = ModelSource(a_model(), "toy-model", loaded(task).folder)
    return make_cell(loaded(task), source, a_method(method), "method", 0, Runtime(threads=1), 8)


def test_the_line_is_that_of_the_result_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effect, "_TOLD", Last())
    lines: list[str] = []

    def said(cell: Cell) -> dict[str, Any]:
        lines.clear()
        return compute_cell(cell, ModelStore(tmp_path), lines.append).result

    result = said(cell_of("random"))
    (line,) = [text for text in lines if "moves" in text]
    moved = result["whole"]["metric"]["value"] - result["empty"]["metric"]["value"]
    value, half = line.split(" by ")[1].split(";")[0].split(" ± ")
    assert line.startswith("corruption moves logit_diff by ")
    assert f"{value} ± {half}" == with_half_width(moved, float(half) or 1e-9)
    said(cell_of("random_paths"))
    assert not any("moves" in text for text in lines)
    said(cell_of("random_paths", ablation="zero"))
    assert [text.split(" moves ")[0] for text in lines if "moves" in text] == ["zero ablation"]


def test_what_two_workers_say_of_one_task_is_told_once(tmp_path: Path) -> None:
    cells = [a_cell(method=a_method(name)) for name in ("a", "b")]
    other = a_cell(a_task("other"))
    told: list[Event] = []
    session = Session(
        Plan("run", (*cells, other)),
        CellStore(tmp_path / "run"),
        Settings(ModelStore(tmp_path / "models"), notify=told.append),
    )
    for cell in (*cells, other):
        session.tell(Event("log", cell.id, "corruption moves logit_diff by 1 ± 1"))
    session.tell(Event("log", cells[1].id, "something else"))
    assert [event.cell_id for event in told] == [cells[0].id, other.id, cells[1].id]
