"""Files that the user brings are found beside the task, in HARNESS_FILES, or here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.datasets.locate import VARIABLE, find, locate, needed
from harness.errors import NotFound

FILE = "models/m/tokenizer.json"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The task's folder, two named ones and the current one, in the order of search."""
    folders = {name: tmp_path / name for name in ("task", "first", "second", "here")}
    for folder in folders.values():
        (folder / FILE).parent.mkdir(parents=True)
    monkeypatch.chdir(folders["here"])
    monkeypatch.setenv(VARIABLE, f"{folders['first']}{os.pathsep}{os.pathsep}{folders['second']}")
    return folders


def test_the_nearest_place_wins(places: dict[str, Path]) -> None:
    assert find(FILE, places["task"]) is None
    for name in reversed(places):
        (places[name] / FILE).write_text(name, encoding="utf-8")
        assert locate(FILE, places["task"]).read_text(encoding="utf-8") == name
        assert locate("models/m", places["task"]).is_dir()


def test_what_is_nowhere_is_asked_for_with_all_places(places: dict[str, Path]) -> None:
    with pytest.raises(NotFound) as error:
        locate(FILE, places["task"])
    message = str(error.value)
    assert message == needed(FILE, places["task"])
    assert message.startswith(f"needs {FILE}, which is not below ")
    assert all(str(places[name]) in message for name in ("task", "first", "second"))
    assert f"{VARIABLE} to the folder that holds {FILE}" in message


def test_an_absolute_path_is_looked_for_where_it_says(places: dict[str, Path]) -> None:
    (places["second"] / FILE).write_text("", encoding="utf-8")
    absolute = str(places["second"] / FILE)
    assert find(absolute, places["task"]) == Path(absolute)
    assert find(absolute + "x", places["task"]) is None
    text = f"needs {absolute}x, which does not exist (did you mean {absolute}?)"
    assert needed(absolute + "x", places["task"]) == text


def test_a_path_that_looks_like_a_typo_is_said_to_be_one(places: dict[str, Path]) -> None:
    for name in ("models/gpt2/config.json", "models/llama/config.json"):
        (places["second"] / name).parent.mkdir(parents=True, exist_ok=True)
        (places["second"] / name).write_text("", encoding="utf-8")
    task = places["task"]
    for typo, meant in (
        ("models/gtp2", "models/gpt2"),
        ("model/gpt2/config.json", "models/gpt2/config.json"),
        ("models/lama", "models/llama"),
    ):
        assert f"(did you mean {meant}?)" in needed(typo, task)
    for other in ("models/mistral", "weights/gpt2", "models/gtp2/tokenizer.json"):
        assert "did you mean" not in needed(other, task)


def test_without_the_variable(places: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    (places["first"] / FILE).write_text("", encoding="utf-8")
    assert find(FILE, places["task"]) is None
    assert needed(FILE, places["here"]).count(" or ") == 1  # the task's folder is the current one


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b"])
def test_a_path_that_cannot_exist_is_not_there(places: dict[str, Path], path: str) -> None:
    assert find(path, places["task"]) is None
