"""Weights over processes: who is refused, what ids say, and a run of two processes as of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.fake_cells import a_cell, a_method, a_task
from support.processes import TASK, launch

from harness.datasets.open import open_data
from harness.discovery.refusals import shards_problem
from harness.discovery.registry import built_in
from harness.errors import HarnessError
from harness.runs.compute.obtain import obtain_model
from harness.runs.plan import Cell
from harness.runs.plan.processes import refuse_other_shards
from harness.runs.plan.threads import of_training
from harness.runs.plan.unable import refuse_unable
from harness.runs.services.forecasts.extent import Shape
from harness.runs.store import CellStore, ModelStore
from harness.spec.types import CompileModel, Runtime

TWO = Runtime(processes=2, shards=2)


def in_shards(kind: str = "eap", **changes: Any) -> Cell:
    return a_cell(method=a_method(kind), runtime=TWO, **changes)


# ---------------------------------------------------------------- refusals
def test_weights_lie_over_all_processes_or_none() -> None:
    for fitting in (Runtime(), Runtime(processes=2), TWO):
        refuse_other_shards(fitting)
    for wrong in (Runtime(shards=2), Runtime(processes=3, shards=2)):
        with pytest.raises(HarnessError, match=r"shards is 2 and .*torchrun --nproc-per-node 2"):
            refuse_other_shards(wrong)


@pytest.mark.parametrize("kind", ["acdc", "activation_patching", "node_patching"])
def test_methods_that_take_weights_out_of_layers_are_refused(kind: str) -> None:
    assert str(shards_problem([kind])).startswith(f"{kind} takes weights out of layers")
    with pytest.raises(HarnessError, match=kind):
        refuse_unable([in_shards(kind)])


def test_only_what_processes_share_can_be_in_shards() -> None:
    able = {kind for kind, info in built_in().items() if info.processes}
    assert able <= {kind for kind, info in built_in().items() if info.shards}
    refuse_unable([in_shards(kind) for kind in able if built_in()[kind].needs != "dictionaries"])


def test_models_that_are_made_whole_are_refused() -> None:
    with pytest.raises(HarnessError, match="is compiled"):
        refuse_unable([in_shards(model=CompileModel(kind="compile"))])
    task = a_task()
    per_head = replace(task, evaluation=replace(task.evaluation, key_value_edges="per_head"))
    with pytest.raises(HarnessError, match="keys and values of every head"):
        refuse_unable([in_shards(task=per_head)])


def test_one_process_does_not_take_a_model_in_two_shards(tmp_path: Path) -> None:
    cell = in_shards()
    with pytest.raises(HarnessError, match=r"for 2 processes .* and this is one: .*torchrun"):
        obtain_model(cell, open_data(cell.task), ModelStore(tmp_path), print)


# ---------------------------------------------------------------- identity
def test_shards_are_in_a_cells_id_and_not_in_its_models() -> None:
    assert of_training(TWO) == of_training(Runtime())
    assert "shards" not in of_training(Runtime(processes=2))


def test_plans_count_a_share_of_the_layers_and_one_whole_layer() -> None:
    shape = Shape(layers=8, heads=4, groups=4, d_model=64, d_mlp=256, vocab=10, tokens=5)
    layer = 12 * 64 * 64 * 4 / 2**20
    embeddings = 2 * 10 * 64 * 4 / 2**20
    assert shape.weights_mib() == pytest.approx(8 * layer + embeddings)
    assert shape.weights_mib(shards=4) == pytest.approx(2 * layer + layer + embeddings)


# ---------------------------------------------------------------- a run
SUITE = """\
spec_version: 1
name: trial
title: A trained model, and channels of a shipped one
tasks: [toy]
methods: [masks, eap]
controls: []
runtime: {threads: 1}
also:
  - tasks: [bracket_matching]
    models: [brackets-sparse-2l-64]
    methods: [eap]
    evaluations: [{granularity: channel, sizes: [0.02, 0.2], discovery_pairs: 20, test_pairs: 20}]
"""

MASKS = """\
spec_version: 1
name: masks
title: Masks of few steps
kind: edge_pruning
params: {steps: 6, batch_size: 6, sparsities: [0.5]}
"""


def run(folder: Path, results: str, *options: str, processes: int = 1) -> str:
    """What a run of the suite says; it must succeed."""
    for name, text in {
        "tasks/toy.yaml": TASK,
        "specs/suites/trial.yaml": SUITE,
        "specs/methods/masks.yaml": MASKS,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    arguments = ["-m", "harness", "run", "trial", "--include", str(folder)]
    process = launch([*arguments, "--results", str(folder / results), *options], processes)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def arrays_of(folder: Path) -> dict[tuple[str, str], dict[str, np.ndarray[Any, Any]]]:
    """By task and method, the arrays that a cell stores."""
    store, cells = CellStore(folder / "trial"), {}
    for cell in store.ids():
        result = store.result(cell)
        cells[result["task"], result["method"]] = {
            f"{name}/{key}": value
            for name in ("circuit", "examples")
            for key, value in load_file(store.cells / cell / f"{name}.safetensors").items()
        }
    return cells


@pytest.mark.slow
def test_two_processes_with_half_the_weights_compute_what_one_does(tmp_path: Path) -> None:
    run(tmp_path, "one")
    said = run(tmp_path, "two", "--shards", "2", processes=2)
    assert said.count("trained model brackets") == 1
    assert said.count("at most 1 at once, 0 left whole") == 3
    one, two = arrays_of(tmp_path / "one"), arrays_of(tmp_path / "two")
    assert one.keys() == two.keys()
    assert len(one) == 3
    for cell, arrays in one.items():
        for name, wanted in arrays.items():
            tolerance = 1e-5 if "masks" in cell else 1e-6
            scale = max(1.0, float(np.abs(wanted).max())) if wanted.dtype.kind == "f" else 1.0
            apart = np.abs(two[cell][name].astype(float) - wanted.astype(float)).max()
            assert apart <= tolerance * scale, (cell, name)
