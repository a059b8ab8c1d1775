"""A whole cell in several processes: all of them get one result, which is that of one process."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.fake_cells import a_method, a_model, a_task, loaded
from support.threads_as_processes import in_processes

from harness.errors import HarnessError
from harness.runs.compute.cell import compute_cell
from harness.runs.compute.last import Last
from harness.runs.plan import Cell, ModelSource, make_cell
from harness.runs.store import CellOutput
from harness.runs.store.models import ModelStore
from harness.spec.types import CircuitTarget, Runtime

WORLD = 3
MASKS = {"steps": 4, "batch_size": 4, "prices": [0.1]}
TARGETS = {"targets": (CircuitTarget(faithfulness=0.8),), "searched_on": "discovery"}

CHANNELS = {"granularity": "channel", "component": "channels"}


def a_cell(kind: str, params: dict[str, Any], processes: int, **choices: Any) -> Cell:
    task = a_task()
    few = {"sizes": (0.2, 1.0), "discovery_pairs": 11, "test_pairs": 8, **choices}
    if "targets" in few:
        few["sizes"] = None
    task = replace(task, evaluation=replace(task.evaluation, **few))
    source = ModelSource(a_model(), "toy-model", loaded(task).folder)
    method = replace(a_method(kind), params=params)
    runtime = Runtime(threads=1, processes=processes)
    return make_cell(loaded(task), source, method, "method", 0, runtime)


def compute(cell: Cell, models: ModelStore) -> CellOutput:
    return compute_cell(cell, models, lambda text: None)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return ModelStore(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def _no_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes have caches of their own; threads would share one."""
    monkeypatch.setattr(Last, "of", lambda self, key, make: make())


def assert_close(value: Any, other: Any, place: str = "") -> None:
    """The same structure, with numbers that differ in last digits at most."""
    if isinstance(value, dict):
        assert value.keys() == other.keys(), place
        for key in value:
            assert_close(value[key], other[key], f"{place}.{key}")
    elif isinstance(value, list):
        assert len(value) == len(other), place
        for index, (a, b) in enumerate(zip(value, other, strict=True)):
            assert_close(a, b, f"{place}[{index}]")
    elif isinstance(value, float):
        assert other == pytest.approx(value, rel=1e-3, abs=1e-4), place
    else:
        assert value == other, place


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "params", "choices"),
    [
        ("heaviside_masks", MASKS, TARGETS),
        ("eap", {}, {"ablation": "mean"}),
        ("eap", {}, CHANNELS),
        ("eap_ig", {}, {"measures": ("random_necessity",)}),
    ],
)
def test_processes_get_the_result_of_one(models, kind, params, choices):
    alone = compute(a_cell(kind, params, 1, **choices), models)
    cell = a_cell(kind, params, WORLD, **choices)
    shared = in_processes(WORLD, lambda: compute(cell, models))
    texts = {json.dumps(one.result, sort_keys=True) for one in shared}
    assert len(texts) == 1
    own = {"identity", "runtime", "cell"}
    results = [
        {name: x for name, x in one.result.items() if name not in own} for one in (alone, shared[0])
    ]
    assert_close(*results)
    examples = [one.tensors["examples.safetensors"] for one in (alone, *shared)]
    for name, values in examples[0].items():
        for other in examples[1:]:
            np.testing.assert_allclose(other[name], values, rtol=1e-4, atol=1e-5)
    assert shared[0].timing["processor_seconds"] == shared[1].timing["processor_seconds"]
    for rank in range(1, WORLD):
        assert (
            shared[rank].tensors["circuit.safetensors"] == shared[0].tensors["circuit.safetensors"]
        )


def test_a_cell_of_other_processes_than_there_are_is_refused(models):
    with pytest.raises(HarnessError, match="is for 3 processes that share its prompts"):
        compute(a_cell("eap", {}, 3), models)
