"""Tasks of the suite `mib`: `tasks/mib`, for four models that the user brings.

Their own tokenizers are not there: one that splits as Llama 3's does stands in for them, and
GPT-2's where the reference data has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support.split_checks import check_held_out_sentences
from support.word_tokenizer import BOS, write_tokenizer

from harness.datasets.check import check_task, needed_files
from harness.datasets.locate import VARIABLE
from harness.datasets.open import open_data
from harness.datasets.pairs import PromptPairs, TaskData
from harness.datasets.template.spec import TemplateData
from harness.errors import HarnessError, NotFound
from harness.models.loading.tokenizer import on_model
from harness.runs.plan.variants import apart, excluded
from harness.spec.load import Library, Loaded
from harness.spec.types import LoadModel, Task, TokenizerSpec

FOLDERS = {
    "gpt2-small": "gpt2",
    "qwen2_5-0_5b": "Qwen2.5-0.5B",
    "gemma2-2b": "gemma-2-2b",
    "llama3_1-8b": "Llama-3.1-8B",
}
IOI = [("mib_ioi", model) for model in FOLDERS]
MCQA = [("mib_mcqa", model) for model in ("qwen2_5-0_5b", "gemma2-2b", "llama3_1-8b")]
ARITHMETIC = [("mib_addition", "llama3_1-8b"), ("mib_subtraction", "llama3_1-8b")]
TASKS = ["mib_ioi", "mib_mcqa", "mib_addition", "mib_subtraction"]
SPLIT_NAMES = ["Anna", "Henry"]  # of two tokens with the tokenizer of these tests


def on(name: str, model: str) -> Loaded[Task]:
    """The task with the tokenizer of a model of the suite."""
    loaded = Library().model(model)
    return on_model(Library().task(name), loaded.spec, loaded.folder)


def test_the_suite_has_these_tasks_and_models() -> None:
    refs = {one.ref for one in Library().entries("task") if one.ref.startswith("mib/")}
    assert refs == {f"mib/{name}" for name in TASKS}
    suite = Library().suite("mib").spec
    assert list(suite.tasks) == TASKS
    pairs = [
        (one, model) for one in TASKS for model in suite.models if not apart(suite, one, model)
    ]
    assert pairs == [*IOI, *MCQA, *ARITHMETIC]
    assert suite.skip_missing


def test_masks_are_learned_on_the_two_small_models_alone() -> None:
    suite = Library().suite("mib").spec
    choices = Library().task("mib_ioi").spec.evaluation
    left = [one for one in FOLDERS if not excluded(suite, "mib_ioi", one, "edge_pruning", choices)]
    assert left == ["gpt2-small", "qwen2_5-0_5b"]
    assert not any(excluded(suite, "mib_ioi", one, "eap", choices) for one in FOLDERS)


@pytest.mark.parametrize("name", TASKS)
def test_without_the_files_they_are_sound_and_say_what_they_need(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    loaded = Library().task(name)
    assert check_task(loaded) == []
    (message,) = needed_files(loaded)
    own = loaded.spec.model
    assert isinstance(own, LoadModel)
    assert own.name is not None
    assert message.startswith(f"needs {own.path}/tokenizer.json, which is not below ")
    assert own.path == f"models/{FOLDERS[own.name]}"
    # MIB's prompts begin with BOS, whatever the model.
    assert loaded.spec.tokenizer == TokenizerSpec(kind="model", bos=True)
    for model, folder in FOLDERS.items():
        with pytest.raises(NotFound, match=f"needs models/{folder}/tokenizer.json, which is not "):
            on(name, model)


def words_of(loaded: Loaded[Task]) -> set[str]:
    data = loaded.spec.data
    if not isinstance(data, TemplateData):
        return set()
    words = {word for template in data.templates for word in re.findall("[A-Za-z]+", template.text)}
    for one in data.lists.values():
        text = (loaded.folder / one.file).read_text() if one.file else " ".join(one.words or ())
        words |= set(text.split())
    return words


@pytest.fixture
def tokenizers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with `models/*/tokenizer.json`, all of the same words."""
    words = set().union(*(words_of(Library().task(name)) for name in ("mib_ioi", "mib_mcqa")))
    for model, name in FOLDERS.items():
        spec = Library().model(model).spec
        assert isinstance(spec, LoadModel)
        path = tmp_path / "models" / name / "tokenizer.json"
        write_tokenizer(path, words, SPLIT_NAMES, spec.bos or BOS)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def decoded(task: TaskData, pairs: PromptPairs, side: str) -> list[str]:
    rows = zip(getattr(pairs, side), pairs.lengths, strict=True)
    return [task.tokenizer.decode(row[1:length].tolist()) for row, length in rows]


def answers(task: TaskData, pairs: PromptPairs, side: str) -> list[str]:
    return [task.tokenizer.decode([one]) for one in getattr(pairs, side)[:, 0, 0]]


@pytest.mark.usefixtures("tokenizers")
@pytest.mark.parametrize(("name", "model"), IOI)
def test_ioi_names_the_receiver_and_its_twin_the_giver(name: str, model: str) -> None:
    task = open_data(on(name, model))
    check_ioi(task)
    assert len(task.tokenizer.encode(f" {SPLIT_NAMES[0]}")) == 2
    shown = {
        word
        for text in decoded(task, task.pairs("train", 500, 1), "clean")
        for word in text.split()
    }
    assert not shown & {*SPLIT_NAMES, "<unk>"}


@pytest.mark.usefixtures("tokenizers")
@pytest.mark.parametrize(("name", "model"), IOI)
def test_held_out_sentences_are_of_no_other_split(name: str, model: str) -> None:
    """[20] With a tokenizer whose words are words."""
    loaded = on(name, model)
    assert isinstance(loaded.spec.data, TemplateData)
    check_held_out_sentences(open_data(loaded), loaded.spec.data)


def check_ioi(task: TaskData) -> None:
    for split in ("train", "validation", "test", "new_frames"):
        pairs = task.pairs(split, 60, 0)
        assert (pairs.clean[:, 0] == task.tokenizer.bos).all()
        assert ((pairs.clean != pairs.corrupted).sum(axis=1) == 1).all()
        for text, twin, good, bad in zip(
            decoded(task, pairs, "clean"),
            decoded(task, pairs, "corrupted"),
            answers(task, pairs, "good"),
            answers(task, pairs, "bad"),
            strict=True,
        ):
            assert text.count(bad) == 2
            assert text.count(good) == 1
            assert twin == good.join(text.rsplit(bad, 1))


@pytest.mark.slow
def test_ioi_with_gpt2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference_file: Callable[[str], Path]
) -> None:
    folder = tmp_path / "models" / "gpt2"
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").symlink_to(reference_file("gpt2_tokenizer/tokenizer.json"))
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    loaded = on("mib_ioi", "gpt2-small")
    assert check_task(loaded) == []
    check_ioi(open_data(loaded))


@pytest.mark.usefixtures("tokenizers")
@pytest.mark.parametrize(("name", "model"), MCQA)
def test_the_answer_is_the_letter_of_the_colour_in_the_question(name: str, model: str) -> None:
    task = open_data(on(name, model))
    letters = set()
    for split in task.splits:
        pairs = task.pairs(split, 60, 0)
        for text, twin, good, bad in zip(
            decoded(task, pairs, "clean"),
            decoded(task, pairs, "corrupted"),
            answers(task, pairs, "good"),
            answers(task, pairs, "bad"),
            strict=True,
        ):
            question, *choices = text.removesuffix("\nAnswer:").split("\n")
            asked, *others = twin.removesuffix("\nAnswer:").split("\n")
            assert question == asked
            assert [one[:3] for one in choices] == ["A. ", "B. ", "C. ", "D. "]
            assert [one[3:] for one in choices] == [one[3:] for one in others]
            right = [one for one in choices if one[3:] in re.findall("[a-z]+", question)]
            assert [one[0] for one in right] == [good.strip()]
            assert others[choices.index(right[0])][0] == bad.strip()
            assert not set("ABCD") & {one[0] for one in others}
            assert len({one[0] for one in others}) == 4
            assert good.startswith(" ")
            letters.add(good)
    assert letters == {" A", " B", " C", " D"}


@pytest.mark.usefixtures("tokenizers")
@pytest.mark.parametrize(("name", "model"), ARITHMETIC)
def test_there_are_enough_sums(name: str, model: str) -> None:
    loaded = on(name, model)
    assert check_task(loaded) == []
    texts = decoded(open_data(loaded), open_data(loaded).pairs("test", 3, 0), "clean")
    sign = "+" if "addition" in name else "-"
    assert all(re.fullmatch(rf"\d\d \{sign} \d\d = ", text) for text in texts)


def test_a_tokenizer_without_the_answers_is_refused_by_name(tokenizers: Path) -> None:
    """Not left out: the files are there, and wrong."""
    path = tokenizers / "models" / FOLDERS["qwen2_5-0_5b"] / "tokenizer.json"
    path.write_text(path.read_text().replace("| ?[A-Za-z]+|", "|[A-Za-z]+|"))
    with pytest.raises(HarnessError, match="' A' must be exactly one token but is 2: ' ' 'A'"):
        open_data(on("mib_mcqa", "qwen2_5-0_5b"))
    assert any("' A' must be" in str(one) for one in check_task(Library().task("mib_mcqa")))
