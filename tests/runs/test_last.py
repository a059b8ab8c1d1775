"""What cells of one model and task share is computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.fake_cells import a_method, a_model, a_task, loaded

from harness.runs.compute import cell as module
from harness.runs.compute.cell import compute_cell
from harness.runs.compute.last import Last
from harness.runs.plan import ModelSource, make_cell
from harness.runs.store.models import ModelStore
from harness.spec.types import Runtime


def test_only_the_last_key_is_kept() -> None:
    made: list[str] = []
    last: Last[str] = Last()

    def ask(key: str) -> str:
        return last.of(key, lambda: made.append(key) or key.upper())

    assert [ask(key) for key in "aabba"] == list("AABBA")
    assert made == ["a", "b", "a"]


def test_the_models_quality_is_measured_once_for_a_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Any] = []
    quality = module.quality

    def counted(*arguments: Any, **more: Any) -> Any:
        measured.append(arguments)
        return quality(*arguments, **more)

    monkeypatch.setattr(module, "quality", counted)
    monkeypatch.setattr(module, "_QUALITY", Last())
    source = ModelSource(a_model(), "toy-model", loaded(a_task()).folder)

    def result(method: str, limit: int) -> Any:
        cell = make_cell(
            loaded(a_task()), source, a_method(method), "method", 0, Runtime(threads=1), limit
        )
        output = compute_cell(cell, ModelStore(tmp_path), lambda text: None)
        return output.result["model_quality"]

    first, calls = result("random", 4), len(measured)
    assert result("eap", 4) == first
    assert len(measured) == calls
    assert result("eap", 3) != first  # of other pairs
    assert len(measured) == 2 * calls
