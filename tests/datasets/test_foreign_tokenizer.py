"""A `tokenizer.json` as people have it: its own settings are switched off, and BOS is its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.check import issues_of
from harness.datasets.open import open_data
from harness.datasets.tokenizers import FileTokenizer
from harness.errors import HarnessError
from harness.models.loading.location import DOWNLOADED
from harness.models.loading.tokenizer import on_model
from harness.spec.load import Library
from harness.spec.types import LoadModel

WORDS = ["a", "b", "c", "d", "e"]
TRUNCATION = {"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
FIXED, LONGEST = ({"Fixed": 9}, "BatchLongest")


def padding(strategy: Any, direction: str = "Right") -> dict[str, Any]:
    return {
        "strategy": strategy,
        "direction": direction,
        "pad_to_multiple_of": 4,
        "pad_id": 1,
        "pad_type_id": 0,
        "pad_token": "a",
    }


def document(special: list[str] | None = None, **changes: Any) -> dict[str, Any]:
    """A word-level tokenizer with these special tokens after `<unk>`."""
    names = ["<unk>", *(special or []), *WORDS]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": names.index(one), "content": one, "special": True, **flags}
        for one in ["<unk>", *(special or [])]
    ]
    vocabulary = {name: index for index, name in enumerate(names)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        **changes,
    }


def around(before: list[str], after: list[str], whole: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer with a post-processor that puts special tokens around a text."""
    vocabulary = whole["model"]["vocab"]

    def special(names: list[str]) -> list[Any]:
        return [{"SpecialToken": {"id": one, "type_id": 0}} for one in names]

    text = [{"Sequence": {"id": "A", "type_id": 0}}]
    single = [*special(before), *text, *special(after)]
    names = [*before, *after]
    processor = {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            one: {"id": one, "ids": [vocabulary[one]], "tokens": [one]} for one in names
        },
    }
    return {**whole, "post_processor": processor}


def write(folder: Path, whole: dict[str, Any], config: Any = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(whole), encoding="utf-8")
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


# ------------------------------------------------------------------ settings
@pytest.mark.parametrize(
    "settings",
    [
        {"truncation": TRUNCATION},
        {"padding": padding(FIXED)},
        {"padding": padding(LONGEST, "Left")},
        {"truncation": TRUNCATION, "padding": padding(LONGEST)},
    ],
)
def test_settings_that_cut_or_fill_up_texts_are_switched_off(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    plain = FileTokenizer(write(tmp_path / "plain", document()), bos=False)
    other = FileTokenizer(write(tmp_path / "other", document(**settings)), bos=False)
    texts = ["a b c d e", "a b", "e"]
    expected = [[1, 2, 3, 4, 5], [1, 2], [5]]
    for one in (plain, other):
        assert [one.encode(text) for text in texts] == expected
        assert one.encode_all(texts) == expected
        assert [ids for ids, _ in one.spans(texts)] == expected
        assert [one.prompt(text) for text in texts] == expected
        assert one.single(" e") == 5


def test_merges_are_not_dropped_at_random(tmp_path: Path) -> None:
    model = {
        "type": "BPE",
        "vocab": {"a": 0, "b": 1, "ab": 2, "abab": 3},
        "merges": ["a b", "ab ab"],
        "dropout": 0.5,
    }
    tokenizer = FileTokenizer(write(tmp_path, document(model=model, added_tokens=[])), bos=False)
    assert [tokenizer.encode("abab") for _ in range(30)] == [[3]] * 30


def test_the_reference_tokenizers_are_the_same_with_settings(
    tmp_path: Path, reference_file: Callable[[str], Path]
) -> None:
    """`max_length: 12` cut prompts of 15 tokens."""
    path = reference_file("gpt2_tokenizer/tokenizer.json")
    whole = json.loads(path.read_text(encoding="utf-8"))
    cutting = {**TRUNCATION, "max_length": 12}
    other = FileTokenizer(write(tmp_path, {**whole, "truncation": cutting}), bos=False)
    text = "When Mary and John went to the store, John gave a drink to the man with"
    ids = FileTokenizer(path, bos=False).encode(text)
    assert len(ids) > 12
    assert other.encode(text) == ids


# ------------------------------------------------------------------ BOS
STARTS = ["<|startoftext|>", "<|endoftext|>"]
SENTENCE = ["<|endoftext|>", "<s>", "</s>"]


@pytest.mark.parametrize(
    ("special", "before", "after"),
    [
        (STARTS, "<|startoftext|>", []),
        (SENTENCE, "<|endoftext|>", []),
        (["[SEP]", "[CLS]"], "[CLS]", ["[SEP]"]),
        (["</s>", "<s>"], "<s>", ["</s>"]),
    ],
)
@pytest.mark.parametrize("bos", [True, "auto"])
def test_bos_is_what_the_file_puts_before_a_text(
    tmp_path: Path, special: list[str], before: str, after: list[str], bos: bool | str
) -> None:
    whole = document(special)
    config = {"bos_token": special[-1]}  # not asked
    tokenizer = FileTokenizer(write(tmp_path, around([before], after, whole), config), bos)
    assert tokenizer.bos == whole["model"]["vocab"][before]
    assert tokenizer.prompt("b") == [tokenizer.bos, whole["model"]["vocab"]["b"]]


@pytest.mark.parametrize(("bos", "expected"), [(True, "<s>"), ("auto", None), (False, None)])
def test_what_a_file_puts_after_a_text_is_no_bos(
    tmp_path: Path, bos: bool | str, expected: str | None
) -> None:
    whole = around([], ["</s>"], document(["<s>", "</s>"]))
    tokenizer = FileTokenizer(write(tmp_path, whole, {"bos_token": "<s>"}), bos)
    assert tokenizer.bos == (None if expected is None else whole["model"]["vocab"][expected])


@pytest.mark.parametrize("token", ["<s>", {"content": "<s>", "lstrip": False}])
def test_the_config_beside_the_file_names_bos(tmp_path: Path, token: Any) -> None:
    path = write(tmp_path, document(SENTENCE), {"bos_token": token})
    assert FileTokenizer(path, bos=True).bos == 2
    assert FileTokenizer(path, bos="auto").bos is None  # the file does not put it there


def test_the_only_special_token_is_bos(tmp_path: Path) -> None:
    path = write(tmp_path, document(["<|endoftext|>"]), {"model_max_length": 1024})
    assert FileTokenizer(path, bos=True).bos == 1


@pytest.mark.parametrize("name", ["<|startoftext|>", "<|endoftext|>", "<unk>", "b"])
def test_the_task_can_name_any_token(tmp_path: Path, name: str) -> None:
    whole = around(["<|startoftext|>"], [], document(STARTS))
    tokenizer = FileTokenizer(write(tmp_path, whole), bos=name)
    assert tokenizer.bos == whole["model"]["vocab"][name]


@pytest.mark.parametrize(
    ("special", "config", "bos", "said"),
    [
        (STARTS, None, True, r"does not say which .*'<\|startoftext\|>', '<\|endoftext\|>'"),
        (SENTENCE, {}, True, r"no tokenizer_config.json beside it names one.*'<s>', '</s>'"),
        (STARTS, {"bos_token": None}, True, r"there is none: .* is null.*'<\|endoftext\|>'"),
        (STARTS, {"bos_token": "<s>"}, True, r"names the BOS '<s>', which is no token"),
        (STARTS, {"bos_token": 3}, True, "neither a text nor null: 3"),
        (STARTS, [1], True, "is not a JSON object"),
        ([], None, True, "it has no special token"),
        (STARTS, None, "<s>", r"has no token '<s>'; .*candidates: '<\|startoftext\|>'"),
    ],
)
def test_what_is_not_settled_is_asked_for(
    tmp_path: Path, special: list[str], config: Any, bos: bool | str, said: str
) -> None:
    path = write(tmp_path, document(special), config)
    with pytest.raises(HarnessError, match=said) as error:
        FileTokenizer(path, bos)
    if "null: 3" not in said and "object" not in said:
        assert "name it in `bos`" in str(error.value)


def test_two_tokens_before_a_text_are_no_bos(tmp_path: Path) -> None:
    path = write(tmp_path, around(["<s>", "</s>"], [], document(["<s>", "</s>"])))
    for bos in (True, "auto"):
        with pytest.raises(HarnessError, match="puts 2 tokens before a text: '<s>' '</s>'"):
            FileTokenizer(path, bos)


def test_a_broken_config_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, document(STARTS))
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(HarnessError, match=r"tokenizer_config\.json, which names BOS, cannot be"):
        FileTokenizer(path, bos=True)


def test_the_published_config_names_bos(reference_file: Callable[[str], Path]) -> None:
    for name, expected, own in (("gpt2_tokenizer", 50256, None), ("stories260K", 1, 1)):
        path = reference_file(f"{name}/tokenizer.json")
        assert FileTokenizer(path, bos=True).bos == expected
        assert FileTokenizer(path, bos="auto").bos == own


def test_a_prompt_with_a_bos_of_its_own_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, document(["<s>"]))
    for bos in (True, "<s>"):
        with pytest.raises(HarnessError, match=r"the prompt begins with BOS \('<s>'\)"):
            FileTokenizer(path, bos).prompt("<s> a b")
    assert FileTokenizer(path, bos=False).prompt("<s> a b") == [1, 2, 3]


def test_unknown_text_is_no_answer(tmp_path: Path) -> None:
    tokenizer = FileTokenizer(write(tmp_path, document()), bos=False)
    with pytest.raises(HarnessError, match="' zebra' is unknown to the tokenizer: '<unk>'"):
        tokenizer.single(" zebra")
    assert tokenizer.single(" <unk>") == 0  # asked for by name


def test_a_model_of_the_hub_brings_what_names_bos() -> None:
    assert "tokenizer_config.json" in DOWNLOADED


# ------------------------------------------------------------------ places in a task
TASK = """spec_version: 1
name: toy
title: Toy
tokenizer: {kind: file, path: tokenizer.json, bos: BOS}
data:
  kind: template
  templates:
    - "TEXT {X} b"
  slots: {X: one}
  lists: {one: [a, b, c, d, e]}
  good: {word: d}
  bad: {word: e}
  corruptions: {change: {X: "=a"}}
  corruption: change
evaluation: {ablation: interchange, positions: all, discovery_pairs: 2, test_pairs: 2}
model: {kind: load, path: model}
"""


@pytest.mark.parametrize(
    ("bos", "text", "where", "said"),
    [
        ("true", "c", "tokenizer.bos", "candidates: '<|startoftext|>', '<|endoftext|>'"),
        ("<s>", "c", "tokenizer.bos", "has no token '<s>'"),
        ("<|startoftext|>", "<|startoftext|> c", "data.templates.0", "begins with BOS"),
    ],
)
def test_mistakes_are_named_by_place(
    tmp_path: Path, bos: str, text: str, where: str, said: str
) -> None:
    write(tmp_path, document(STARTS))
    path = tmp_path / "toy.yaml"
    path.write_text(TASK.replace("BOS", bos).replace("TEXT", text))
    (issue,) = issues_of(Library(), path)
    assert issue.where == where
    assert said in issue.message


def test_a_model_says_which_token_is_its_bos(tmp_path: Path) -> None:
    """Where the folder does not: one task file serves models whose BOS differ."""
    write(tmp_path / "one", document(["<|endoftext|>", "<|im_start|>"]), {"bos_token": None})
    write(tmp_path / "two", around(["<s>"], [], document(["<s>"])))
    text = TASK.replace("{kind: file, path: tokenizer.json, bos: BOS}", "{kind: model, bos: true}")
    path = tmp_path / "toy.yaml"
    path.write_text(text.replace("TEXT", "c"))
    task = Library().task(str(path))
    with pytest.raises(HarnessError, match=r"candidates: '<\|endoftext\|>', '<\|im_start\|>'"):
        open_data(on_model(task, LoadModel(path="one"), tmp_path))
    named = LoadModel(path="one", bos="<|endoftext|>")
    for model, bos in ((named, "<|endoftext|>"), (LoadModel(path="two"), "<s>")):
        tokenizer = open_data(on_model(task, model, tmp_path)).tokenizer
        assert tokenizer.bos is not None
        assert tokenizer.tokens[tokenizer.bos] == bos
