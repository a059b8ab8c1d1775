"""Weights over processes: who is refused, what ids say, and a run of two processes as of one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.fake_cells import a_cell, a_method, a_task
from support.processes import launch

from harness.discovery.refusals import shards_problem
from harness.discovery.registry import built_in
from harness.errors import HarnessError
from harness.runs.plan import Cell
from harness.runs.plan.processes import refuse_other_shards
from harness.runs.plan.threads import of_training
from harness.runs.plan.unable import refuse_unable
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


# ---------------------------------------------------------------- identity
def test_shards_are_in_a_cells_id_and_not_in_its_models() -> None:
    assert of_training(TWO) == of_training(Runtime())
    assert "shards" not in of_training(Runtime(processes=2))


# ---------------------------------------------------------------- a run
SUITE = """\
spec_version: 1
name: channels
title: Channels of a shipped model
tasks: [bracket_matching]
models: [brackets-sparse-2l-64]
methods: [eap, eap_few]
controls: []
evaluations: [{granularity: channel, sizes: [0.02, 0.2]}]
runtime: {threads: 1}
also:
  - evaluations: [{granularity: channel, sizes: [0.1], ablation: zero}]
    methods: [eap]
"""

METHOD = """\
spec_version: 1
name: eap_few
title: Masks learned in a few steps
kind: edge_pruning
params: {steps: 4, batch_size: 6, sparsities: [0.5]}
"""


def run(folder: Path, results: str, *options: str, processes: int = 1) -> str:
    """What a run of the suite says; it must succeed."""
    (folder / "specs/suites").mkdir(parents=True, exist_ok=True)
    (folder / "specs/methods").mkdir(exist_ok=True)
    (folder / "specs/suites/channels.yaml").write_text(SUITE)
    (folder / "specs/methods/eap_few.yaml").write_text(METHOD)
    arguments = ["-m", "harness", "run", "channels", "--include", str(folder / "specs")]
    arguments += ["--results", str(folder / results), "--limit", "20", *options]
    process = launch(arguments, processes)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def numbers_of(folder: Path) -> dict[tuple[str, str], Mapping[str, Any]]:
    """By method and variant, the arrays that a cell stores."""
    cells = {}
    for path in folder.glob("channels/cells/*/result.json"):
        result = json.loads(path.read_text())
        arrays = {
            f"{name}/{key}": value
            for name in ("circuit", "examples")
            for key, value in load_file(path.parent / f"{name}.safetensors").items()
        }
        cells[result["method"], json.dumps(result["choices"], sort_keys=True)] = arrays
    return cells


@pytest.mark.slow
def test_two_processes_with_half_the_weights_compute_what_one_does(tmp_path: Path) -> None:
    run(tmp_path, "one")
    said = run(tmp_path, "two", "--shards", "2", processes=2)
    assert said.count("0 left whole") == 3
    assert said.count("at most 1 at once") == 3
    one, two = numbers_of(tmp_path / "one"), numbers_of(tmp_path / "two")
    assert len(one) == 3
    assert one.keys() == two.keys()
    for cell, arrays in one.items():
        assert arrays.keys() == two[cell].keys()
        for name, wanted in arrays.items():
            scale = max(1e-6, np.abs(wanted).max()) if wanted.dtype.kind == "f" else 1
            apart = np.abs(two[cell][name].astype(float) - wanted.astype(float)).max()
            assert apart <= 1e-5 * scale, (cell, name)
