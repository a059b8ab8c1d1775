"""Tasks for models that the user brings: `tasks/pretrained`, each with the tokenizer of its model.

Without the model they can be listed and checked but for their tokens. With GPT-2's tokenizer they
are checked in full. Llama's own tokenizer is not there: one like it stands in.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.split_checks import HELD_OUT, check_disjoint, check_held_out_sentences

from harness.datasets.check import check_task, needed_files
from harness.datasets.locate import VARIABLE
from harness.datasets.open import open_data
from harness.datasets.pairs import PromptPairs, TaskData
from harness.datasets.template.spec import TemplateData
from harness.errors import HarnessError, NotFound
from harness.models.loading.tokenizer import on_model
from harness.spec.load import Library, Loaded
from harness.spec.types import LoadModel, Task, TokenizerSpec

BOOLEAN = ["boolean_few_shot_pretrained", "boolean_instruction_pretrained"]
IOI = ["ioi_pretrained", "ioi_t1_pretrained"]
BOTH = ["gendered_pronoun_pretrained", *IOI, *BOOLEAN]
GPT2 = ["greater_than_pretrained", *BOTH]
LLAMA = ["greater_than_digits", *BOTH]
MODELS = {"gpt2": "gpt2-small", "llama": "llama"}


def on(family: str, name: str) -> Loaded[Task]:
    """The task with the tokenizer of a shipped model spec."""
    model = Library().model(MODELS[family])
    return on_model(Library().task(name), model.spec, model.folder)


@pytest.mark.parametrize("name", [*GPT2, "greater_than_digits"])
def test_without_the_files_they_are_sound_and_say_what_they_need(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    loaded = Library().task(name)
    family = "llama" if name == "greater_than_digits" else "gpt2"
    assert loaded.spec.tokenizer == TokenizerSpec(kind="model", bos="auto")
    assert check_task(loaded) == []
    (message,) = needed_files(loaded)
    assert message.startswith(f"needs models/{family}/tokenizer.json, which is not below ")
    assert isinstance(loaded.spec.model, LoadModel)
    assert loaded.spec.model.path == f"models/{family}"
    with pytest.raises(HarnessError, match="is that of the model, and no model is chosen"):
        open_data(loaded)
    with pytest.raises(NotFound, match=f"needs models/{family}/tokenizer.json, which is not below"):
        on(family, name)


def test_every_task_of_this_folder_is_tested() -> None:
    refs = {one.ref for one in Library().entries("task") if one.ref.startswith("pretrained/")}
    assert refs == {f"pretrained/{name}" for name in (*GPT2, *LLAMA)}


def decoded(task: TaskData, pairs: PromptPairs, side: str) -> list[str]:
    first = int(task.tokenizer.bos is not None)
    rows = zip(getattr(pairs, side), pairs.lengths, strict=True)
    return [task.tokenizer.decode(row[first:length].tolist()) for row, length in rows]


def word_sizes(task: TaskData, text: str) -> list[int]:
    """Tokens of every word with the space before it."""
    words = re.findall(r" ?[^ ]+", text)
    return [len(task.tokenizer.encode("." + word)) for word in words]


def check_pairs(task: TaskData, pairs: PromptPairs, changed: int | None) -> None:
    """Aligned word by word; each answer is the one token that follows the prompt's text."""
    clean, twins = decoded(task, pairs, "clean"), decoded(task, pairs, "corrupted")
    for text, twin in zip(clean, twins, strict=True):
        assert text != twin
        assert word_sizes(task, text) == word_sizes(task, twin)
        words = zip(text.split(" "), twin.split(" "), strict=True)
        assert changed in (None, sum(one != other for one, other in words))
    assert pairs.lengths.max() <= task.longest
    np.testing.assert_array_equal(pairs.positions, pairs.lengths[:, None] - 1)


def check_spaced_answers(task: TaskData, pairs: PromptPairs, words: set[str]) -> None:
    tokens = task.tokenizer
    for text, good, bad in zip(
        decoded(task, pairs, "clean"), pairs.good[:, 0], pairs.bad[:, 0], strict=True
    ):
        for (answer,) in (good, bad):
            word = tokens.decode([answer]).strip(" ▁")
            assert word in words
            assert tokens.encode(f"{text} {word}") == [*tokens.encode(text), answer]


def lists(loaded: Loaded[Task]) -> dict[str, set[str]]:
    data = loaded.spec.data
    assert isinstance(data, TemplateData)
    return {name: set(one.words or ()) for name, one in data.lists.items()}


# ------------------------------------------------------------------ GPT-2
@pytest.fixture
def gpt2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference_file: Callable[[str], Path]
) -> None:
    folder = tmp_path / "models" / "gpt2"
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").symlink_to(reference_file("gpt2_tokenizer/tokenizer.json"))
    monkeypatch.setenv(VARIABLE, str(tmp_path))


@pytest.mark.usefixtures("gpt2")
@pytest.mark.parametrize("name", IOI)
def test_ioi_with_gpt2(name: str) -> None:
    loaded = on("gpt2", name)
    names = lists(loaded)["names"]
    task = open_data(loaded)
    orders = set()
    for name_ in names:
        assert len(task.tokenizer.encode(f" {name_}")) == 1, name_
    for split in task.splits:
        pairs = task.pairs(split, 60, 0)
        check_pairs(task, pairs, changed=3)
        check_spaced_answers(task, pairs, names)
        assert ((pairs.clean != pairs.corrupted).sum(axis=1) == 3).all()
        for text, twin, good, bad in zip(
            decoded(task, pairs, "clean"),
            decoded(task, pairs, "corrupted"),
            pairs.good[:, 0, 0],
            pairs.bad[:, 0, 0],
            strict=True,
        ):
            people = [one for one in re.findall(r"\w+", text) if one in names]
            others = [one for one in re.findall(r"\w+", twin) if one in names]
            assert sorted(people[:2]) == sorted(task.tokenizer.decode([i])[1:] for i in (good, bad))
            assert people[2] == task.tokenizer.decode([bad])[1:]
            orders.add(people[0] == people[2])
            assert len({*people, *others}) == 5  # ABB and CDE
    assert orders == {True, False}


@pytest.mark.usefixtures("gpt2")
def test_greater_than_with_gpt2() -> None:
    """[20] Aligned pairs, and answers counted from the very year that the prompt shows.

    The published data are otherwise: there a label i stands with a prompt that shows year i - 1.
    """
    task = open_data(on("gpt2", "greater_than_pretrained"))
    pairs = task.pairs("test", 200, 0)
    check_pairs(task, pairs, changed=2)
    years: set[str] = set()
    for text, twin, row, good, bad in zip(
        decoded(task, pairs, "clean"),
        decoded(task, pairs, "corrupted"),
        pairs.clean,
        pairs.good[:, 0],
        pairs.bad[:, 0],
        strict=True,
    ):
        for prompt in (text, twin):
            found = re.search(r" (\d\d)(\d\d) (?:to|and) (\d\d)$", prompt)
            assert found, prompt
            assert found[1] == found[3]
            pieces = [task.tokenizer.decode([one]) for one in task.tokenizer.encode(found[0])]
            assert pieces[:2] == [f" {found[1]}", found[2]]
            assert pieces[-1] == f" {found[1]}"
        found = re.search(r"(\d\d)(\d\d) ", text)
        assert found
        years.add(found[0])
        first = int(found[2])
        assert [task.tokenizer.decode([one]) for one in good if one >= 0] == [
            f"{year:02d}" for year in range(first + 1, 100)
        ]
        assert [task.tokenizer.decode([one]) for one in bad if one >= 0] == [
            f"{year:02d}" for year in range(first + 1)
        ]
        assert task.tokenizer.decode([row[0]]) == "The"
    assert len(years) > 100


@pytest.mark.usefixtures("gpt2")
def test_gendered_pronoun_with_gpt2() -> None:
    loaded = on("gpt2", "gendered_pronoun_pretrained")
    people, task = lists(loaded), open_data(loaded)
    assert people["women"].isdisjoint(people["men"])
    sizes: set[int] = set()
    answers: set[str] = set()
    for split in task.splits:
        pairs = task.pairs(split, 100, 0)
        check_pairs(task, pairs, changed=1)
        check_spaced_answers(task, pairs, {"she", "he"})
        for text, twin, good in zip(
            decoded(task, pairs, "clean"),
            decoded(task, pairs, "corrupted"),
            pairs.good[:, 0, 0],
            strict=True,
        ):
            name, other = text.split(" ")[1], twin.split(" ")[1]
            she = task.tokenizer.decode([good]) == " she"
            assert name in people["women" if she else "men"]
            assert other in people["men" if she else "women"]
            sizes.add(len(task.tokenizer.encode(f" {name}")))
            answers.add(task.tokenizer.decode([good]))
    assert sizes == {1, 2}  # names of two tokens are replaced by names of two tokens
    assert answers == {" she", " he"}


@pytest.mark.slow
@pytest.mark.usefixtures("gpt2")
@pytest.mark.parametrize("name", GPT2)
def test_check_finds_nothing_wrong_with_gpt2(name: str) -> None:
    loaded = Library().task(name)
    assert check_task(loaded) == []
    assert needed_files(loaded) == []


def check_splits(task: TaskData, loaded: Loaded[Task]) -> None:
    """No prompt in two splits; where sentences are held out, they are of no other split."""
    check_disjoint(task, 60)
    if HELD_OUT in task.splits:
        assert isinstance(loaded.spec.data, TemplateData)
        check_held_out_sentences(task, loaded.spec.data, 60)


@pytest.mark.usefixtures("gpt2")
@pytest.mark.parametrize("name", GPT2)
def test_splits_with_gpt2_share_no_prompt_and_no_held_out_sentence(name: str) -> None:
    """[20] Of their clean prompts, sixty from each."""
    loaded = on("gpt2", name)
    check_splits(open_data(loaded), loaded)


def test_all_tasks_with_held_out_sentences_are_tested() -> None:
    """[20] Here, in `test_shipped_tasks` and in `test_mib_tasks`."""
    library, found = Library(), set()
    for entry in library.entries("task"):
        data = library.task(entry.ref).spec.data
        if isinstance(data, TemplateData) and any(one.split == HELD_OUT for one in data.templates):
            found.add(entry.ref.rpartition("/")[2])
    small = {"ioi", "ioi_abcd", "greater_than", "gendered_pronoun"}
    assert found == small | {"ioi_pretrained", "gendered_pronoun_pretrained", "mib_ioi"}


# ------------------------------------------------------------------ Llama
def begins_with(token: str, index: int) -> dict[str, Any]:
    """A post-processor that puts a token before every text."""
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [index], "tokens": [token]}},
    }


def llama_like(words: set[str], glued: set[str]) -> dict[str, Any]:
    """A tokenizer in Llama 2's form: a space before every text, digits and unknown words split."""
    vocabulary = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    vocabulary += [chr(code) for code in range(33, 127)]
    merges: list[str] = []
    for start, word in [*(("▁", word) for word in sorted(words)), *(("", one) for one in glued)]:
        piece = start or word[0]
        for letter in word if start else word[1:]:
            merges.append(f"{piece} {letter}")
            piece += letter
            vocabulary.append(piece)
    prepend = {"type": "Prepend", "prepend": "▁"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoders = [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": [prepend, replace]},
        "pre_tokenizer": None,
        "post_processor": begins_with("<s>", 1),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {token: index for index, token in enumerate(dict.fromkeys(vocabulary))},
            "merges": list(dict.fromkeys(merges)),
        },
    }


SPLIT_NAMES = {"Anna", "Henry", "Nancy", "Walter", "Greta", "Rudolf"}


@pytest.fixture
def llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = {"True", "False", "and", "or", "not", "is", "he", "she"}
    for name in LLAMA:
        loaded = Library().task(name)
        if not isinstance(loaded.spec.data, TemplateData):
            continue
        words |= set().union(*lists(loaded).values())
        for template in loaded.spec.data.templates:
            words |= set(re.findall(r"[A-Za-z]+", re.sub(r"\{\w*\}", "", template.text)))
    folder = tmp_path / "models" / "llama"
    folder.mkdir(parents=True)
    text = json.dumps(llama_like(words - SPLIT_NAMES, {"True", "False"}))
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    monkeypatch.setenv(VARIABLE, str(tmp_path))


@pytest.mark.usefixtures("llama")
@pytest.mark.parametrize("name", [*IOI, "gendered_pronoun_pretrained"])
def test_words_with_a_tokenizer_like_llamas(name: str) -> None:
    loaded = on("llama", name)
    task = open_data(loaded)
    ioi = name.startswith("ioi")
    words = set().union(*lists(loaded).values())
    for split in task.splits:
        pairs = task.pairs(split, 80, 0)
        assert (pairs.clean[:, 0] == 1).all()
        check_pairs(task, pairs, changed=3 if ioi else 1)
        check_spaced_answers(task, pairs, words - (SPLIT_NAMES if ioi else set()))
        shown = {one for text in decoded(task, pairs, "clean") for one in re.findall(r"\w+", text)}
        assert shown.isdisjoint(SPLIT_NAMES) or not ioi  # the rule one_token leaves them out


@pytest.mark.usefixtures("llama")
def test_greater_than_with_a_tokenizer_like_llamas() -> None:
    task = open_data(on("llama", "greater_than_digits"))
    pairs = task.pairs("test", 150, 0)
    check_pairs(task, pairs, changed=1)
    assert ((pairs.clean != pairs.corrupted).sum(axis=1) == 1).all()
    for text, twin, good, bad in zip(
        decoded(task, pairs, "clean"),
        decoded(task, pairs, "corrupted"),
        pairs.good[:, 0],
        pairs.bad[:, 0],
        strict=True,
    ):
        found = re.search(r" (\d\d)(\d)9 .* (\d\d)$", text)
        earlier = re.search(r" (\d\d)(\d)9 ", twin)
        assert found
        assert earlier
        assert found[1] == found[3] == earlier[1]
        assert earlier[2] < found[2]
        greater = [task.tokenizer.tokens[one] for one in good if one >= 0]
        assert greater == [str(digit) for digit in range(int(found[2]) + 1, 10)]
        others = [task.tokenizer.tokens[one] for one in bad if one >= 0]
        assert others == [str(digit) for digit in range(int(found[2]) + 1)]


@pytest.mark.usefixtures("gpt2")
@pytest.mark.parametrize("name", BOOLEAN)
def test_boolean_expressions_with_gpt2(name: str) -> None:
    task = open_data(on("gpt2", name))
    pairs = task.pairs("test", 40, 0)
    check_pairs(task, pairs, changed=1)
    glued = "instruction" in name
    for text, good in zip(decoded(task, pairs, "clean"), pairs.good[:, 0, 0], strict=True):
        query = re.findall(r"\n([^\n]*) (?:is|\[/INST\] ')$", text)[0]
        answer = ("" if glued else " ") + str(eval(query))
        assert task.tokenizer.encode(text + answer) == [*task.tokenizer.encode(text), good]


@pytest.mark.usefixtures("llama")
@pytest.mark.parametrize("name", BOOLEAN)
def test_boolean_expressions_with_a_tokenizer_like_llamas(name: str) -> None:
    task = open_data(on("llama", name))
    pairs = task.pairs("test", 40, 0)
    check_pairs(task, pairs, changed=1)
    glued = "instruction" in name
    for text, good in zip(decoded(task, pairs, "clean"), pairs.good[:, 0, 0], strict=True):
        query = re.findall(r"\n([^\n]*) (?:is|\[/INST\] ')$", text)[0]
        answer = str(eval(query))
        assert task.tokenizer.tokens[good] == ("" if glued else "▁") + answer
        joined = text + ("" if glued else " ") + answer
        assert task.tokenizer.encode(joined) == [*task.tokenizer.encode(text), good]


@pytest.mark.usefixtures("llama")
@pytest.mark.parametrize("name", LLAMA)
def test_splits_with_a_tokenizer_like_llamas_share_no_prompt_and_no_held_out_sentence(
    name: str,
) -> None:
    """[20] Of their clean prompts, sixty from each."""
    loaded = on("llama", name)
    check_splits(open_data(loaded), loaded)
