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
from support.word_tokenizer import write_tokenizer

from harness.datasets.check import check_task, needed_files
from harness.datasets.locate import VARIABLE
from harness.datasets.open import open_data
from harness.datasets.pairs import PromptPairs, TaskData
from harness.errors import HarnessError
from harness.spec.load import Library, Loaded
from harness.spec.types import LoadModel, Task, TemplateData

FOLDERS = {
    "gpt2": "gpt2",
    "qwen": "Qwen2.5-0.5B",
    "gemma": "gemma-2-2b",
    "llama": "Llama-3.1-8B",
}
IOI = [f"mib_ioi_{family}" for family in FOLDERS]
MCQA = [f"mib_mcqa_{family}" for family in ("qwen", "gemma", "llama")]
ARITHMETIC = ["mib_addition_llama", "mib_subtraction_llama"]
SPLIT_NAMES = ["Anna", "Henry"]  # of two tokens with the tokenizer of these tests


def folder_of(name: str) -> str:
    return FOLDERS[name.rpartition("_")[2]]


def test_the_suite_has_these_tasks() -> None:
    refs = {one.ref for one in Library().entries("task") if one.ref.startswith("mib/")}
    assert refs == {f"mib/{name}" for name in (*IOI, *MCQA, *ARITHMETIC)}
    suite = Library().suite("mib").spec
    assert set(suite.tasks) == {*IOI, *MCQA, *ARITHMETIC}
    assert suite.skip_missing


@pytest.mark.parametrize("name", [*IOI, *MCQA, *ARITHMETIC])
def test_without_the_files_they_are_sound_and_say_what_they_need(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    loaded = Library().task(name)
    assert check_task(loaded) == []
    (message,) = needed_files(loaded)
    assert message.startswith(f"needs models/{folder_of(name)}/tokenizer.json, which is not below ")
    assert isinstance(loaded.spec.model, LoadModel)
    assert loaded.spec.model.path == f"models/{folder_of(name)}"
    assert loaded.spec.tokenizer.bos  # MIB's prompts begin with it, whatever the model


def test_tasks_of_one_kind_differ_in_their_model_alone() -> None:
    for names in (IOI, MCQA):
        specs = [Library().task(name).spec for name in names]
        assert all(spec.data == specs[0].data for spec in specs)
        assert all(spec.evaluation == specs[0].evaluation for spec in specs)


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
    words = set().union(*(words_of(Library().task(name)) for name in (*IOI, *MCQA)))
    for name in FOLDERS.values():
        write_tokenizer(tmp_path / "models" / name / "tokenizer.json", words, SPLIT_NAMES)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def decoded(task: TaskData, pairs: PromptPairs, side: str) -> list[str]:
    rows = zip(getattr(pairs, side), pairs.lengths, strict=True)
    return [task.tokenizer.decode(row[1:length].tolist()) for row, length in rows]


def answers(task: TaskData, pairs: PromptPairs, side: str) -> list[str]:
    return [task.tokenizer.decode([one]) for one in getattr(pairs, side)[:, 0, 0]]


@pytest.mark.usefixtures("tokenizers")
@pytest.mark.parametrize("name", IOI)
def test_ioi_names_the_receiver_and_its_twin_the_giver(name: str) -> None:
    task = open_data(Library().task(name))
    check_ioi(task)
    assert len(task.tokenizer.encode(f" {SPLIT_NAMES[0]}")) == 2
    shown = {
        word
        for text in decoded(task, task.pairs("train", 500, 1), "clean")
        for word in text.split()
    }
    assert not shown & {*SPLIT_NAMES, "<unk>"}


@pytest.mark.usefixtures("tokenizers")
@pytest.mark.parametrize("name", IOI)
def test_held_out_sentences_are_of_no_other_split(name: str) -> None:
    """[20] With a tokenizer whose words are words."""
    loaded = Library().task(name)
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
    loaded = Library().task("mib_ioi_gpt2")
    assert check_task(loaded) == []
    check_ioi(open_data(loaded))


@pytest.mark.usefixtures("tokenizers")
@pytest.mark.parametrize("name", MCQA)
def test_the_answer_is_the_letter_of_the_colour_in_the_question(name: str) -> None:
    task = open_data(Library().task(name))
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
@pytest.mark.parametrize("name", ARITHMETIC)
def test_there_are_enough_sums(name: str) -> None:
    loaded = Library().task(name)
    assert check_task(loaded) == []
    texts = decoded(open_data(loaded), open_data(loaded).pairs("test", 3, 0), "clean")
    sign = "+" if "addition" in name else "-"
    assert all(re.fullmatch(rf"\d\d \{sign} \d\d = ", text) for text in texts)


def test_a_tokenizer_without_the_answers_is_refused_by_name(tokenizers: Path) -> None:
    """Not left out: the files are there, and wrong."""
    path = tokenizers / "models" / folder_of("mib_mcqa_qwen") / "tokenizer.json"
    path.write_text(path.read_text().replace("| ?[A-Za-z]+|", "|[A-Za-z]+|"))
    with pytest.raises(HarnessError, match="' A' must be exactly one token but is 2: ' ' 'A'"):
        open_data(Library().task("mib_mcqa_qwen"))
    assert any("' A' must be" in str(one) for one in check_task(Library().task("mib_mcqa_qwen")))
