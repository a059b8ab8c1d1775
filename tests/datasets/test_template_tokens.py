"""Templates over a `tokenizer.json`: alignment slot by slot, rules of tokens, glued answers.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.template_task import NAMES, PLACES, ioi

from harness.datasets.pairs import TaskData
from harness.datasets.template.spec import AnswerRule, Template, TemplateData, WordList
from harness.datasets.template.task import open_template
from harness.errors import HarnessError
from harness.spec.types import TokenizerSpec

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
BYTE_LEVEL: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": BYTES,
    "post_processor": None,
    "decoder": BYTES,
    "model": {"type": "BPE", "unk_token": None, "merges": []},
}


def byte_level(path: Path, whole: list[str]) -> None:
    """Write a byte-level tokenizer in which `whole` words after a space are one token each."""
    alphabet = [chr(code) for code in range(33, 127)] + ["Ġ"]
    merges: list[str] = []
    vocabulary = list(alphabet)
    for word in whole:
        piece = "Ġ"
        for letter in word:
            merge = f"{piece} {letter}"
            piece += letter
            if merge not in merges:
                merges.append(merge)
                vocabulary.append(piece)
    spec = json.loads(json.dumps(BYTE_LEVEL))
    spec["model"]["vocab"] = {token: index for index, token in enumerate(vocabulary)}
    spec["model"]["merges"] = merges
    path.write_text(json.dumps(spec), encoding="utf-8")


def test_file_tokenizer_renders_whole_sentences(tmp_path: Path) -> None:
    byte_level(tmp_path / "t.json", [*NAMES, *PLACES])
    spec = TokenizerSpec(kind="file", path="t.json")
    task = open_template(ioi(), spec, tmp_path)
    pairs = task.pairs("train", 20, 0)
    tokens = task.tokenizer.tokens
    assert pairs.lengths.max() <= task.longest
    for clean, twin, length, good in zip(
        pairs.clean, pairs.corrupted, pairs.lengths, pairs.good, strict=True
    ):
        text = task.tokenizer.decode(clean[:length].tolist())
        assert text.endswith(("gave a drink to", "smiled at"))
        assert tokens[good[0, 0]][0] == "Ġ"
        assert tokens[good[0, 0]][1:] in text
        assert len(np.flatnonzero(clean[:length] != twin[:length])) == 1


def test_file_tokenizer_refuses_words_of_unequal_length(tmp_path: Path) -> None:
    """[20] Pairs are aligned, or refused."""
    byte_level(tmp_path / "t.json", [*NAMES[1:], *PLACES])  # Ann has three tokens
    spec = TokenizerSpec(kind="file", path="t.json")
    data = ioi(good=AnswerRule(word="bar"), bad=AnswerRule(word="inn"))
    with pytest.raises(HarnessError, match=r"'Ann' is 3 tokens and '\w+' is 1"):
        open_template(data, spec, tmp_path).pairs("train", 60, 0)
    with pytest.raises(HarnessError, match="must be exactly one token"):
        open_template(ioi(), spec, tmp_path)


def token_counts(task: TaskData, ids: np.ndarray) -> list[int]:
    """Tokens of every word of a prompt, found by encoding the words one by one."""
    words = task.tokenizer.decode(ids.tolist()).split(" ")
    return [len(task.tokenizer.encode(" " + word)) for word in words]


@pytest.mark.parametrize("names", [4, 10**6])
def test_the_rule_aligned_leaves_out_what_would_be_refused(tmp_path: Path, names: int) -> None:
    """[20] With few names the prompts are listed, with many they are drawn."""
    byte_level(tmp_path / "t.json", ["Bob", "Dan", "Eve", *PLACES])  # Ann and Cy are longer
    spec = TokenizerSpec(kind="file", path="t.json")
    data = ioi(
        good=AnswerRule(word="bar"),
        bad=AnswerRule(word="inn"),
        lists={"names": WordList(words=NAMES[:5]), "places": WordList(words=PLACES)},
        corruptions={"all": {"IO": "C", "S": "C", "S2": "IO"}},
        corruption="all",
        constraints=("distinct(IO, S, C)", "aligned"),
    )
    with pytest.raises(HarnessError, match="is 1: "):
        open_template(
            dataclasses.replace(data, constraints=data.constraints[:1]), spec, tmp_path
        ).pairs("train", 50, 0)
    task = open_template(data, spec, tmp_path)
    task.source.countable = min(task.source.countable, names)
    pairs = task.pairs("train", 15, 0)
    seen = set()
    for clean, twin, length in zip(pairs.clean, pairs.corrupted, pairs.lengths, strict=True):
        assert token_counts(task, clean[:length]) == token_counts(task, twin[:length])
        seen |= {*task.tokenizer.decode(clean[:length].tolist()).split(" ")} & {*NAMES}
    assert len(seen) > 2


def test_a_rule_that_no_pair_keeps_ends(tmp_path: Path) -> None:
    byte_level(tmp_path / "t.json", [*PLACES])
    data = ioi(
        good=AnswerRule(word="bar"),
        bad=AnswerRule(word="inn"),
        lists={"names": WordList(words=("A", "Bo", "Cyd")), "places": WordList(words=PLACES)},
        constraints=("distinct(IO, S, C)", "aligned"),
    )
    task = open_template(data, TokenizerSpec(kind="file", path="t.json"), tmp_path)
    with pytest.raises(HarnessError, match="has only 0 distinct prompts"):
        task.pairs("train", 5, 0)


def add_merges(path: Path, first: list[str], last: list[str]) -> None:
    """Add merges before and after those of a tokenizer, and what they make to its vocabulary."""
    spec = json.loads(path.read_text(encoding="utf-8"))
    model = spec["model"]
    model["merges"] = [*first, *model["merges"], *last]
    for merge in (*first, *last):
        model["vocab"].setdefault(merge.replace(" ", ""), len(model["vocab"]))
    path.write_text(json.dumps(spec), encoding="utf-8")


def year_tokenizer(path: Path) -> None:
    """A century after a space and two digits are a token each, but 1107 and 1205 are one."""
    byte_level(path, ["11", "12", "13", "The", "war"])
    add_merges(path, [f"0 {year}" for year in range(10)], ["Ġ12 05", "Ġ11 07"])


def glued_years(**changes: Any) -> TemplateData:
    data = TemplateData(
        templates=(Template(text="The war lasted from {CC}{YY} to {CC}{}"),),
        good=AnswerRule(list="years", after="YY"),
        bad=AnswerRule(list="years", up_to="YY"),
        lists={
            "centuries": WordList(range=(11, 13), digits=2),
            "years": WordList(range=(1, 9), digits=2),
        },
        constraints=("YY != YY2", "CC != CC2", "whole_tokens(CC, YY)", "aligned"),
        slots={"CC": "centuries", "YY": "years", "CC2": "centuries", "YY2": "years"},
        corruptions={"other": {"CC": "CC2", "YY": "YY2"}},
        corruption="other",
        continues=False,  # after " 11" comes no "07": 1107 is one token
    )
    return dataclasses.replace(data, **changes)


def test_answers_glued_to_the_prompt_and_slots_of_whole_tokens(tmp_path: Path) -> None:
    year_tokenizer(tmp_path / "t.json")
    task = open_template(glued_years(), TokenizerSpec(kind="file", path="t.json"), tmp_path)
    tokens = task.tokenizer.tokens
    assert task.tokenizer.encode(" 1205") == [tokens.index("Ġ1205")]
    pairs = task.pairs("train", 40, 0, at_most=True)
    assert len(pairs) > 15
    for clean, twin, length, good, bad in zip(
        pairs.clean, pairs.corrupted, pairs.lengths, pairs.good[:, 0], pairs.bad[:, 0], strict=True
    ):
        for ids in (clean, twin):
            text = task.tokenizer.decode(ids[:length].tolist())
            century, year = text.split(" ")[4][:2], text.split(" ")[4][2:]
            assert text == f"The war lasted from {century}{year} to {century}"
            assert f"{century}{year}" not in ("1205", "1107")  # aligned with one another
            assert [f"Ġ{century}", year] == [
                tokens[index] for index in ids[:length] if tokens[index].strip("Ġ").isdigit()
            ][:2]
        first = int(task.tokenizer.decode(clean[:length].tolist()).split(" ")[4][2:])
        later = [tokens[index] for index in good if index >= 0]
        assert later == [f"0{year}" for year in range(first + 1, 10)]
        assert [tokens[i] for i in bad if i >= 0] == [f"0{year}" for year in range(1, first + 1)]
    batch = task.training_batch("answer", 200, 0, 0)
    used = {tokens[index] for index in np.unique(batch.tokens)}
    assert {"Ġ11", "Ġ12", "05", "07"} < used
    assert used.isdisjoint({"Ġ1205", "Ġ1107"})


def test_without_the_rule_years_of_one_token_are_drawn(tmp_path: Path) -> None:
    """The rule above is needed: 1205 as one token is aligned with no other year."""
    year_tokenizer(tmp_path / "t.json")
    data = glued_years(constraints=("YY != YY2", "CC != CC2"))
    task = open_template(data, TokenizerSpec(kind="file", path="t.json"), tmp_path)
    with pytest.raises(HarnessError, match="not aligned token by token"):
        task.pairs("train", 40, 0, at_most=True)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so {A} met {B} in", " Ann"),
        ("so {A} met {B} in {}", " Ann"),
        ("so {A} met {B} @{}", "Ann"),
    ],
)
def test_the_end_of_a_template_says_how_the_answer_follows(
    tmp_path: Path, text: str, answer: str
) -> None:
    byte_level(tmp_path / "t.json", [*NAMES])
    add_merges(tmp_path / "t.json", [], ["A n", "An n"])
    data = TemplateData(
        templates=(Template(text=text),),
        slots={"A": "names", "B": "names"},
        lists={"names": WordList(words=NAMES[1:])},
        good=AnswerRule(word="Ann"),
        bad=AnswerRule(word="met" if "@" in text else "Bob"),
        corruptions={"swap": {"A": "B"}},
        corruption="swap",
        constraints=("A != B",),
    )
    if "@" in text:  # "met" is three tokens without a space before it
        with pytest.raises(HarnessError, match="'met' must be exactly one token but is 3"):
            open_template(data, TokenizerSpec(kind="file", path="t.json"), tmp_path)
        data = dataclasses.replace(data, bad=AnswerRule(word="m"))
    task = open_template(data, TokenizerSpec(kind="file", path="t.json"), tmp_path)
    pairs = task.pairs("train", 10, 0)
    for clean, length, good in zip(pairs.clean, pairs.lengths, pairs.good[:, 0, 0], strict=True):
        prompt = task.tokenizer.decode(clean[:length].tolist())
        assert not prompt.endswith(" ")
        assert task.tokenizer.encode(prompt + answer) == [*clean[:length], good]


@pytest.mark.parametrize("form", ["word", "slot", "list"])
def test_templates_of_one_task_can_be_glued_and_not(tmp_path: Path, form: str) -> None:
    byte_level(tmp_path / "t.json", ["a", "b", "x", "y"])
    good = {
        "word": AnswerRule(word="x"),
        "slot": AnswerRule(slot="A"),
        "list": AnswerRule(list="xs"),
    }
    data = TemplateData(
        templates=(Template(text="so {A} @{}"), Template(text="so {A} #")),
        slots={"A": "letters", "B": "letters"},
        lists={"letters": WordList(words=("a", "b")), "xs": WordList(words=("x", "y"))},
        good=good[form],
        bad=AnswerRule(word="y" if form == "word" else "z"),
        corruptions={"swap": {"A": "B"}},
        corruption="swap",
        constraints=("A != B",),
    )
    if form != "word":
        add_merges(tmp_path / "t.json", [], ["Ġ z"])
    task = open_template(data, TokenizerSpec(kind="file", path="t.json"), tmp_path)
    pairs = task.source.pairs(task.source.draw(np.random.default_rng(0), 40, "train", True))
    seen = set()
    for clean, length, sides in zip(
        pairs.clean, pairs.lengths, zip(pairs.good[:, 0], pairs.bad[:, 0], strict=True), strict=True
    ):
        text = task.tokenizer.decode(clean[:length].tolist())
        seen.add(text[-1])
        for ids in sides:
            for index in ids[ids >= 0]:
                assert (task.tokenizer.tokens[index][0] == "Ġ") == text.endswith("#")
    assert seen == {"@", "#"}


def test_one_token_leaves_words_out_of_a_list(tmp_path: Path) -> None:
    byte_level(tmp_path / "t.json", [*NAMES[3:], *PLACES])
    spec = TokenizerSpec(kind="file", path="t.json")
    constraints = ("distinct(IO, S, C)", "one_token(names)")
    held_out = {"new_names": {"names": ("Ann", "Hal")}}  # Ann is left out, Hal is not
    task = open_template(ioi(constraints=constraints, held_out=held_out), spec, tmp_path)
    for split in ("train", "new_names"):
        used = set()
        for ids in task.pairs(split, 20, 0).clean:
            used |= {*task.tokenizer.decode(ids.tolist()).split(" ")} & {*NAMES}
        assert used == {*NAMES[3:-1]} | ({"Hal"} if split == "new_names" else set())
    byte_level(tmp_path / "t.json", [*PLACES])
    with pytest.raises(HarnessError, match="no word of list 'names' is one token"):
        open_template(ioi(constraints=constraints), spec, tmp_path)


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_rules_of_tokens_change_nothing_where_every_word_is_a_token(kind: Any) -> None:
    data = TemplateData(
        templates=(Template(text="{A}{B}={A}{}"),),
        slots={"A": "letters", "B": "letters"},
        lists={"letters": WordList(words=tuple("abcdefgh"))},
        good=AnswerRule(slot="B"),
        bad=AnswerRule(slot="A"),
        corruptions={"c": {"B": "A"}},
        corruption="c",
        constraints=("A != B",),
    )
    ruled = dataclasses.replace(
        data, constraints=("A != B", "aligned", "whole_tokens(A, B)", "one_token(letters)")
    )
    digests = {
        open_template(one, TokenizerSpec(kind=kind), Path()).pairs("train", 10, 0).digest()
        for one in (data, ruled)
    }
    assert len(digests) == 1
