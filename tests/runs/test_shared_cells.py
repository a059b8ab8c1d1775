"""Two suites that share a cell compute it twice, and neither takes the other's checkpoints away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fake_cells import COMPUTE, a_cell, a_method, a_model, a_task, loaded

from harness.datasets.generators.spec import GeneratorData
from harness.discovery.masks import training as mask_training
from harness.runs.compute import cell as cell_module
from harness.runs.executors.local import LocalExecutor
from harness.runs.executors.session import RunSummary, Settings
from harness.runs.plan import Cell, ModelSource, Plan, make_cell
from harness.runs.store import CellStore
from harness.runs.store.models import ModelStore
from harness.spec.types import Method, Runtime


def run(folder: Path, name: str, cell: Cell, **settings: Any) -> RunSummary:
    models = ModelStore(folder / "models")
    plan = Plan(name, (cell,))
    return LocalExecutor(1).run(plan, CellStore(folder / name), Settings(models, **settings))


def test_a_suite_that_ends_leaves_the_checkpoints_of_one_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run publishes the same cell between two checkpoints of this one's search."""
    monkeypatch.setattr(cell_module, "QUALITY_PAIRS", 4)
    monkeypatch.setattr(mask_training, "SAVE_SECONDS", -1.0)  # after every step
    data = GeneratorData(generator="brackets", params={"lengths": [7], "max_depth": 3})
    few = {"sizes": (0.5, 1.0), "discovery_pairs": 4, "test_pairs": 4}
    task = a_task(data=data)
    task = replace(task, evaluation=replace(task.evaluation, **few))
    params = {"steps": 3, "batch_size": 4, "sparsities": [0.5]}
    method = Method(name="learned", title="Learned", kind="edge_pruning", params=params)
    source = ModelSource(a_model(), "small", Path())
    cell = make_cell(loaded(task), source, method, "method", 0, Runtime(threads=1))
    scratch = tmp_path / "models" / ".scratch" / cell.id
    saved, real = [], mask_training.save

    def save(*args: Any) -> None:
        real(*args)
        saved.append(sorted(path.name for path in scratch.iterdir()))
        if len(saved) == 1:
            assert run(tmp_path, "other", cell, compute=COMPUTE).exit_code == 0

    monkeypatch.setattr(mask_training, "save", save)
    summary = run(tmp_path, "this", cell)
    assert (summary.computed, summary.failed) == ((cell.id,), ())
    assert saved == [["edge_pruning_to_0.safetensors"]] * 3
    assert CellStore(tmp_path / "other").has(cell.id)
    assert not scratch.exists()


def test_checkpoints_of_finished_cells_go_with_the_next_run(tmp_path: Path) -> None:
    """Also where a kill came between the cell and its checkpoints; those of open cells stay."""
    cell, models = a_cell(method=a_method("m")), ModelStore(tmp_path / "models")
    with models.lock(cell.id):
        (models.scratch(cell.id) / "checkpoint").write_text("x")
        assert run(tmp_path, "one", cell, compute=COMPUTE).exit_code == 0
        assert (models.scratch(cell.id) / "checkpoint").exists()
    (models.scratch("another") / "checkpoint").write_text("x")
    assert run(tmp_path, "one", cell, compute=COMPUTE).reused == (cell.id,)
    assert [path.name for path in (models.root / ".scratch").iterdir()] == ["another"]


def test_a_published_model_has_no_files_of_a_killed_writer(tmp_path: Path) -> None:
    models = ModelStore(tmp_path)
    (models.draft("m") / "model.safetensors.tmp").write_text("half")
    folder = models.draft("m")
    (folder / "model.safetensors").write_text("whole")
    names = [path.name for path in models.publish("m", folder).iterdir()]
    assert sorted(names) == ["manifest.json", "model.safetensors"]
