"""What a task and a model lack: named all at once, each with the place where it is looked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fake_cells import a_model, a_task, loaded

from harness.datasets.locate import VARIABLE
from harness.runs.plan.skipped import Skipped, missing_files
from harness.spec.types import LoadModel, TokenizerSpec

OWN = LoadModel(path="models/m")
BROUGHT = a_task(tokenizer=TokenizerSpec(kind="file", path="models/m/tokenizer.json"), model=OWN)


@pytest.fixture(autouse=True)
def _nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv(VARIABLE, raising=False)


def put(folder: Path, *names: str) -> None:
    for name in names:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")


def test_tokenizer_and_weights_are_named_until_they_are_there(tmp_path: Path) -> None:
    task = loaded(BROUGHT, tmp_path)
    tokenizer, folder = missing_files(task, OWN, tmp_path)
    assert tokenizer.startswith("needs models/m/tokenizer.json, which is not below ")
    assert folder == "models/m has to hold config.json and model.safetensors (or its shards)"
    put(tmp_path / "models" / "m", "tokenizer.json", "config.json")
    (weights,) = missing_files(task, OWN, tmp_path)
    assert weights.endswith("m has no model.safetensors")
    put(tmp_path / "models" / "m", "pytorch_model.bin")
    (weights,) = missing_files(task, OWN, tmp_path)
    assert "pytorch_model.bin is a pickle, which can run code and is never opened here" in weights
    assert "save_file" in weights
    put(tmp_path / "models" / "m", "model.safetensors")
    assert missing_files(task, OWN, tmp_path) == ()


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "m"
    put(folder, "tokenizer.json", "config.json", "one.safetensors")
    index = '{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}'
    (folder / "model.safetensors.index.json").write_text(index)
    (text,) = missing_files(loaded(BROUGHT, tmp_path), OWN, tmp_path)
    assert "has no two.safetensors, of the 2 files" in text


def test_a_model_of_a_suite_is_looked_for_beside_its_own_spec(tmp_path: Path) -> None:
    other = LoadModel(path="weights")
    put(tmp_path / "models" / "m", "tokenizer.json")
    task, specs = loaded(BROUGHT, tmp_path), tmp_path / "specs"
    assert missing_files(task, other, specs)[0].startswith("needs weights, which is not below ")
    put(specs / "weights", "config.json", "model.safetensors")
    assert missing_files(task, other, specs) == ()


def test_models_of_the_hub_and_trained_ones_are_never_missing(tmp_path: Path) -> None:
    """No network: files of the hub are fetched, or an error says so, when they are asked for."""
    put(tmp_path / "models" / "m", "tokenizer.json")
    task = loaded(BROUGHT, tmp_path)
    assert missing_files(task, LoadModel(hub="nobody/nothing"), tmp_path) == ()
    assert missing_files(task, a_task().model, tmp_path) == ()


def test_it_is_one_line() -> None:
    line = Skipped("task", "model", ("needs a", "and b")).line()
    assert line == "left out task on model: needs a; and b"


def test_a_tokenizer_of_the_task_that_the_model_is_trained_on_is_needed_too(tmp_path: Path) -> None:
    other = loaded(a_task("other", tokenizer=TokenizerSpec(kind="file", path="t.json")), tmp_path)
    (text,) = missing_files(loaded(a_task(), tmp_path), a_model(), tmp_path, other)
    assert text.startswith("needs t.json, which is not below ")
    put(tmp_path, "t.json")
    assert missing_files(loaded(a_task(), tmp_path), a_model(), tmp_path, other) == ()
