"""Answers that are read anywhere in a prompt, several of them, and answers that are classes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.data_files import write
from support.fake_cells import a_task, loaded
from support.template_task import ioi
from support.word_tokenizer import write_tokenizer

from harness.datasets.check import check_task
from harness.datasets.classes import Classes, classes_of
from harness.datasets.files import open_file, pairs_of_rows
from harness.datasets.files.spec import Columns, FileData
from harness.datasets.open import open_data
from harness.datasets.pairs import NO_TARGET, answer_batch, next_token_targets, unfit
from harness.datasets.template.check import template_problems
from harness.datasets.template.spec import AlsoRead, AnswerRule, Template, WordList
from harness.datasets.template.task import open_template
from harness.errors import HarnessError
from harness.spec.load import Library
from harness.spec.schema import check
from harness.spec.types import TokenizerSpec
from harness.spec.yaml.source import read_source

HERE = Path()
WORDS = TokenizerSpec(kind="words", bos=True)
PLACED = Columns(good="good", bad="bad", position="at")
VERDICT = Classes(("unbalanced", "balanced"))


# ---------------------------------------------------------------- files
def placed(at: Any, good: Any, bad: Any, number: int = 0) -> dict[str, Any]:
    clean, corrupted = f"a b c {number} d", f"a c c {number} e"
    return {"clean": clean, "corrupted": corrupted, "at": at, "good": good, "bad": bad}


def one_file(folder: Path, name: str, *rows: dict[str, Any], classes: Classes | None = None):
    data = FileData(
        path=write(folder, name, list(rows)),
        columns=PLACED,
        shares={"train": 1.0, "validation": 0.0, "test": 0.0},
    )
    return open_file(data, WORDS, folder, classes)


def shown(task: Any, pairs: Any) -> dict[int, list[tuple[int, list[str], list[str]]]]:
    """By the number in a prompt: where it is read and the answers there, as text."""
    names, result = task.tokenizer.tokens, {}

    def texts(ids: Any) -> list[str]:
        return [names[one] for one in ids if one >= 0]

    for row in range(len(pairs)):
        number = int(names[pairs.clean[row, 4]])
        result[number] = [
            (at, texts(pairs.good[row, place]), texts(pairs.bad[row, place]))
            for place, at in enumerate(pairs.positions[row].tolist())
            if at >= 0
        ]
    return result


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.parquet"])
def test_a_column_says_where_the_answer_is_read(tmp_path, name):
    """Counted from 0 with BOS, or from the end; the six tokens are BOS a b c N d."""
    rows = [placed(at, "b", "c", number) for number, at in enumerate((0, 2, 5, -1, -6))]
    task = one_file(tmp_path, name, *rows)
    pairs = task.pairs("train", 5, 0)
    places = {number: answers[0][0] for number, answers in shown(task, pairs).items()}
    assert places == {0: 0, 1: 2, 2: 5, 3: 5, 4: 0}
    assert pairs.positions.shape == (5, 1)


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv"])
def test_several_positions_have_an_answer_each(tmp_path, name):
    rows = [placed([1, -1], ["b", "d"], ["c", "e"], 0), placed([3], ["a"], ["e"], 1)]
    if name.endswith("csv"):
        keys = ("at", "good", "bad")
        rows = [row | {key: json.dumps(row[key]) for key in keys} for row in rows]
    task = one_file(tmp_path, name, *rows)
    assert shown(task, task.pairs("train", 2, 0)) == {
        0: [(1, ["b"], ["c"]), (5, ["d"], ["e"])],
        1: [(3, ["a"], ["e"])],
    }


def test_a_list_of_answers_at_one_of_several_positions(tmp_path):
    task = one_file(tmp_path, "d.jsonl", placed([1, 2], [["b", "c"], "d"], ["e", "e"]))
    assert shown(task, task.pairs("train", 1, 0)) == {
        0: [(1, ["b", "c"], ["e"]), (2, ["d"], ["e"])]
    }
    batch = task.training_batch("answer", 1, 0, 0)
    assert batch.allowed is not None
    allowed = [np.flatnonzero(row).tolist() for row in batch.allowed[0]]
    ids = {name: index for index, name in enumerate(task.tokenizer.tokens)}
    assert allowed == [[], sorted([ids["b"], ids["c"]]), [ids["d"]], [], [], []]


def test_one_prompt_may_be_read_in_several_rows(tmp_path):
    """They are pairs of their own, in one split; a row that comes again counts once."""
    one, other = placed(1, "b", "c"), placed(3, "d", "e")
    task = one_file(tmp_path, "d.jsonl", one, other, one)
    pairs = task.pairs("train", 3, 0, at_most=True)
    assert sorted(pairs.positions[:, 0].tolist()) == [1, 3]
    many = [placed(at, "b", "c", number) for number in range(30) for at in (0, 1)]
    data = FileData(path=write(tmp_path, "many.jsonl", many), columns=PLACED)
    task = open_file(data, WORDS, tmp_path)
    drawn = [task.pairs(split, 60, 0, at_most=True).clean for split in task.splits]
    assert sum(map(len, drawn)) == 60
    prompts = [{tuple(row) for row in split.tolist()} for split in drawn]
    assert not prompts[0] & (prompts[1] | prompts[2])


def test_training_at_the_positions(tmp_path):
    task = one_file(tmp_path, "d.jsonl", placed([0, 3], ["c", "e"], ["b", "d"]))
    ids = {name: index for index, name in enumerate(task.tokenizer.tokens)}
    answers = task.training_batch("answer", 1, 0, 0).targets[0].tolist()
    assert answers == [ids["c"], NO_TARGET, NO_TARGET, ids["e"], NO_TARGET, NO_TARGET]
    every = task.training_batch("next_token", 1, 0, 0).targets[0].tolist()
    assert every == [ids["c"], ids["b"], ids["c"], ids["e"], ids["d"], NO_TARGET]


def test_targets_without_positions_are_those_of_the_last_token():
    """The same calls with `positions` at the end give the same arrays."""
    tokens, lengths = np.array([[3, 4, 5], [6, 7, 0]]), np.array([3, 2])
    good = np.array([[8, 9], [1, -1]])
    last = lengths[:, None] - 1
    for answers in (good, good[:, :1]):
        one = answer_batch(tokens, lengths, answers, 10)
        other = answer_batch(tokens, lengths, answers[:, None], 10, last)
        assert np.array_equal(one.targets, other.targets)
        assert (one.allowed is None) == (other.allowed is None)
        assert one.allowed is None or np.array_equal(one.allowed, other.allowed)
    alone = next_token_targets(tokens, lengths, good[:, 0])
    assert np.array_equal(alone, next_token_targets(tokens, lengths, good[:, :1], last))
    assert alone.tolist() == [[4, 5, 8], [7, 1, NO_TARGET]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            placed(6, "b", "c"),
            "position 6 is not in the prompt, whose 6 tokens are 0 … 5, or -6",
        ),
        (placed(-7, "b", "c"), "position -7 is not in the prompt"),
        (placed([1, -5], ["b", "c"], ["c", "b"]), r"positions \[1, -5\] name a token twice"),
        (placed(1.5, "b", "c"), "column 'at' must be a whole number or a list of them, not 1.5"),
        (placed(True, "b", "c"), "column 'at' must be a whole number or a list of them, not true"),
        (placed([], "b", "c"), r"column 'at' must be a whole number or a list of them, not \[\]"),
        (placed("x", "b", "c"), "column 'at' must be a whole number or a list of them, not 'x'"),
        (placed([1, 2], ["b"], ["c", "d"]), r"column 'good' must list one answer for each of 2"),
        (placed([1, 2], "b", ["c", "d"]), r"column 'good' must list one answer for each of 2"),
        (placed([1, 2], "[1", ["c", "d"]), "column 'good' is not a JSON list"),
        (placed([1, 2], ["b", 3], ["c", "d"]), "column 'good' must be a text or a list of texts"),
        (placed([1, 2], ["b", "d"], ["c", "d"]), "good and bad answers must differ both ways"),
        ({"clean": "a b", "corrupted": "b b", "good": "a", "bad": "b"}, "no column 'at'"),
        (
            {"clean": "a<predict>b</predict>", "corrupted": "b", "at": 0, "good": "a", "bad": "b"},
            "<predict> and a position both say where the answer is read",
        ),
    ],
)
def test_positions_that_cannot_be_read(tmp_path, row, message):
    with pytest.raises(HarnessError, match=rf"d\.jsonl:1: {message}"):
        one_file(tmp_path, "d.jsonl", row)


def test_a_position_needs_columns_of_answers(tmp_path):
    path = write(tmp_path, "d.jsonl", [placed(0, "b", "c")])
    with pytest.raises(HarnessError, match=r"columns\.position needs columns\.good"):
        open_file(FileData(path=path, columns=Columns(position="at")), WORDS, tmp_path)


def test_rows_given_in_python_may_have_positions(tmp_path):
    task = one_file(tmp_path, "d.jsonl", placed(0, "b", "c"))
    row = {"clean": "a b c", "corrupted": "a c c", "good": "b", "bad": "c"}
    assert pairs_of_rows([row | {"position": 1}], task).positions.tolist() == [[1]]
    assert pairs_of_rows([row], task).positions.tolist() == [[3]]
    with pytest.raises(HarnessError, match="row 1: no column 'position'"):
        pairs_of_rows([row | {"position": 1}, row], task)


# ---------------------------------------------------------------- templates
def test_templates_are_read_at_the_first_token_a_slot_or_the_last():
    """Both orders of the names, so that a slot stands at two places; BOS is token 0."""
    text = "When {X} and {Y} went, {S2} gave it to us all"
    default = open_template(ioi(templates=(Template(text=text),)), WORDS, HERE)
    for read, place in ((None, -1), ("last", -1), ("first", 0), ("S2", -6)):
        data = ioi(read=read, templates=(Template(text=text),))
        pairs = open_template(data, WORDS, HERE).pairs("train", 40, 0)
        assert (pairs.positions[:, 0] == place % pairs.lengths).all()
        usual = default.pairs("train", 40, 0)
        assert np.array_equal(pairs.clean, usual.clean)
        assert (pairs.digest() == usual.digest()) == (read in (None, "last"))


def test_a_causal_model_cannot_know_what_comes_later(tmp_path):
    """It is told where the prompt is read; a model that looks both ways may be read there."""
    text = TEMPLATE.replace("READ", "first")
    (told,) = issues(tmp_path, text)
    assert told.startswith("12:9: no prompt differs from its twin up to where its answers are read")
    assert issues(tmp_path, text.replace("d_mlp: 0", "causal: false")) == []
    for read in ("A", "B"):  # B is swapped; A stands before it
        assert bool(issues(tmp_path, TEMPLATE.replace("READ", read))) == (read == "A")


TEMPLATE = """\
spec_version: 1
name: verdict
title: Which letter stands second
tokenizer: {kind: words, bos: true}
data:
  kind: template
  lists: {letters: [a, b, c, d, e]}
  slots: {A: letters, B: letters, C: letters}
  templates: ["{A} {B} {C}"]
  good: B
  bad: {word: none}
  read: READ
  corruptions: {other: {B: "=x"}}
  corruption: other
evaluation: {ablation: interchange, positions: all, discovery_pairs: 2, test_pairs: 2}
model:
  kind: train
  architecture: {n_layers: 1, n_heads: 2, d_model: 8, d_mlp: 0}
  training: {objective: answer, steps: 5}
"""


def test_a_slot_is_read_where_each_order_has_it():
    data = ioi(read="IO", good=AnswerRule(slot="S"), bad=AnswerRule(slot="C"))
    task = open_template(data, WORDS, HERE)
    pairs = task.pairs("train", 60, 0)
    read = pairs.clean[np.arange(60), pairs.positions[:, 0]]
    assert len(set(pairs.positions[:, 0].tolist())) > 2  # of both orders and templates
    swapped = open_template(ioi(), WORDS, HERE).pairs("train", 60, 0)
    assert np.array_equal(pairs.clean, swapped.clean)
    assert np.array_equal(read, swapped.good[:, 0, 0])  # the word of IO itself


def several() -> Any:
    return ioi(
        read="first",
        also_read=(
            AlsoRead(read="S2", good=AnswerRule(slot="IO"), bad=AnswerRule(slot="C")),
            AlsoRead(good=AnswerRule(list="places"), bad=AnswerRule(slot="S")),
        ),
    )


def test_several_places_have_one_answer_each():
    task = open_template(several(), WORDS, HERE)
    assert template_problems(several(), WORDS, HERE) == []
    plain = open_template(ioi(), WORDS, HERE).pairs("train", 30, 0)
    pairs = task.pairs("train", 30, 0)
    assert pairs.positions.shape == (30, 3)
    assert pairs.good.shape == (30, 3, 3)
    assert (pairs.positions[:, 0] == 0).all()
    assert np.array_equal(pairs.positions[:, 2], pairs.lengths - 1)
    assert np.array_equal(pairs.good[:, :2, 0], np.repeat(plain.good[:, 0], 2, axis=1))
    assert (pairs.good[:, :2, 1:] == -1).all()
    places = [task.tokenizer.single(word) for word in ("bar", "inn", "zoo")]
    assert (pairs.good[:, 2] == places).all()
    batch = task.training_batch("answer", 8, 0, 0)
    assert ((batch.targets != NO_TARGET).sum(1) == 3).all()
    assert batch.allowed is not None
    assert (batch.allowed.sum((1, 2)) == 5).all()
    every = task.training_batch("next_token", 8, 0, 0)
    assert ((every.targets != NO_TARGET).sum(1) == every.lengths).all()
    row = np.arange(8)
    at_end = every.targets[row, every.lengths - 1]
    assert set(at_end.tolist()) <= set(places)


def test_tokens_of_a_file_have_a_slot_at_its_last_token(tmp_path):
    """Some names are two tokens: these are read at the second."""
    split = ("Mary", "Anna")
    write_tokenizer(tmp_path / "t.json", ["Tom", "Joe", "met", "in", "Rome", *split], split)
    data = replace(
        ioi(),
        templates=(Template(text="When {A} met {B} in Rome"),),
        slots={"A": "names", "B": "names"},
        lists={"names": WordList(words=("Mary", "Anna")), "all": WordList(words=("Tom", "Joe"))},
        aliases=(),
        constraints=("A != B",),
        corruptions={"c": {"A": "B"}},
        corruption="c",
        good=AnswerRule(word="Tom"),
        bad=AnswerRule(word="Joe"),
        read="B",
    )
    write_tokenizer(tmp_path / "t.json", ["When", "Tom", "Joe", "met", "in", "Rome", *split], split)
    task = open_template(data, TokenizerSpec(kind="file", path="t.json", bos=True), tmp_path)
    pairs = task.pairs("train", 2, 0, at_most=True)
    # BOS, When, _Ma, ry, _met, _An, na, _in, _Rome
    assert pairs.lengths.tolist() == [9] * len(pairs)
    assert pairs.positions.tolist() == [[6]] * len(pairs)


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"read": "IOO"}, ("data", "read"), "unknown slot 'IOO'; did you mean 'IO'?"),
        ({"read": "PLACE"}, ("data", "templates", 1), "read at slot 'PLACE', .* shows it 0 times"),
        (
            {"templates": (Template(text="{X} {Y} {X} {S2} and"),), "read": "X"},
            ("data", "templates", 0),
            "shows it 2 times instead of once",
        ),
        (
            {"also_read": (AlsoRead(good=AnswerRule(slot="IO"), bad=AnswerRule(slot="S")),)},
            ("data", "read"),
            "'last' is read twice",
        ),
        (
            {
                "also_read": (
                    AlsoRead(read="S2", good=AnswerRule(slot="Z"), bad=AnswerRule(slot="S")),
                )
            },
            ("data", "also_read", 0, "good", "slot"),
            "unknown slot 'Z'",
        ),
        (
            {"slots": {**ioi().slots, "first": "names"}, "read": "first"},
            ("data", "read"),
            "'first' is a slot here and also means the first token",
        ),
        (
            {
                "templates": (Template(text="{X} met {Y} and {S2}"),),
                "also_read": (
                    AlsoRead(read="S2", good=AnswerRule(slot="IO"), bad=AnswerRule(slot="S")),
                ),
            },
            ("data", "also_read"),
            "pairs two answers are read at one token",
        ),
    ],
)
def test_places_that_templates_do_not_have(changes, place, message):
    found = [(where, text) for where, text in template_problems(ioi(**changes), WORDS, HERE)]
    assert [text for where, text in found if where == place and re.search(message, text)], found


# ---------------------------------------------------------------- classes
def brackets(folder: Path, name: str = "d.jsonl", **changes: Any) -> FileData:
    def row(text: str, twin: str, answer: str, wrong: str) -> dict[str, str]:
        return {"clean": text, "corrupted": twin, "good": answer, "bad": wrong}

    rows = [
        row("( ( ) )", "( ( ) (", "balanced", "unbalanced"),
        row("( ) ( )", "( ) ( (", "balanced", "unbalanced"),
        row(") ) ( )", "( ) ( )", "unbalanced", "balanced"),
    ]
    whole = {"train": 1.0, "validation": 0.0, "test": 0.0}
    columns = Columns(good="good", bad="bad")
    return FileData(path=write(folder, name, rows), columns=columns, shares=whole, **changes)


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.parquet"])
def test_answers_are_ids_of_classes_in_their_order(tmp_path, name):
    task = open_file(brackets(tmp_path, name), WORDS, tmp_path, VERDICT)
    assert task.tokenizer.tokens == ("<bos>", "(", ")")  # names of classes are no tokens
    assert classes_of(task) == VERDICT
    pairs = task.pairs("train", 3, 0)
    for row in range(3):
        text = task.tokenizer.decode(pairs.clean[row, 1:])
        assert pairs.good[row, 0, 0] == (text != ") ) ( )")
        assert pairs.bad[row, 0, 0] == (text == ") ) ( )")
    batch = task.training_batch("answer", 8, 0, 0)
    assert set(batch.targets[:, -1].tolist()) == {0, 1}
    with pytest.raises(HarnessError, match="train it with `objective: answer`"):
        task.training_batch("next_token", 8, 0, 0)


def test_marked_answers_may_be_classes(tmp_path):
    """With a tokenizer's file too, whose answers begin with the space before the mark."""
    rows = [
        {
            "clean": "a b <predict>balanced</predict>",
            "corrupted": "b b <predict>unbalanced</predict>",
        }
    ]
    write_tokenizer(tmp_path / "t.json", ["a", "b"])
    shares = brackets(tmp_path).shares
    data = FileData(path=write(tmp_path, "marked.jsonl", rows), shares=shares)
    spec = TokenizerSpec(kind="file", path="t.json")
    pairs = open_file(data, spec, tmp_path, VERDICT).pairs("train", 1, 0)
    assert (pairs.good.item(), pairs.bad.item(), pairs.lengths.item()) == (1, 0, 2)


def test_rows_given_in_python_answer_in_classes(tmp_path):
    task = open_file(brackets(tmp_path), WORDS, tmp_path, VERDICT)
    row = {"clean": "( (", "corrupted": "( )", "good": "unbalanced", "bad": "balanced"}
    pairs = pairs_of_rows([row], task)
    assert (pairs.good.item(), pairs.bad.item()) == (0, 1)


def test_unknown_classes_are_named_by_line(tmp_path):
    with pytest.raises(HarnessError, match=r"d\.jsonl:1: unknown answer 'balanced'; did you mean"):
        open_file(brackets(tmp_path), WORDS, tmp_path, Classes(("unbalancd", "balancd")))


def classified(**changes: Any) -> Any:
    data = ioi(good=AnswerRule(list="kinds"), bad=AnswerRule(word="other"))
    kinds = WordList(words=("name", "thing"))
    return replace(data, lists={**data.lists, "kinds": kinds}, **changes)


def test_templates_answer_in_classes():
    """Words and lists of answers alone are not in the vocabulary, which prompts alone make."""
    classes = Classes(("thing", "name", "other"))
    task = open_template(classified(), WORDS, HERE, classes)
    assert template_problems(classified(), WORDS, HERE, classes) == []
    assert not set(task.tokenizer.tokens) & set(classes.names)
    pairs = task.pairs("train", 5, 0)
    assert (pairs.good[:, 0] == [1, 0]).all()
    assert (pairs.bad == 2).all()
    batch = task.training_batch("answer", 4, 0, 0)
    assert batch.allowed is not None
    assert batch.allowed.shape[-1] == 3
    with pytest.raises(HarnessError, match="train it with `objective: answer`"):
        task.training_batch("next_token", 4, 0, 0)
    ((place, text),) = template_problems(classified(), WORDS, HERE, Classes(("name", "other")))
    assert place == ("data", "good")
    assert text == (
        "unknown answer 'thing'; known: name, other (the task answers in the classes of `answers`)"
    )


def test_a_slot_may_hold_the_answering_class():
    data = ioi(good=AnswerRule(slot="IO"), bad=AnswerRule(slot="S"))
    names = tuple(reversed(data.lists["names"].words or ()))
    task = open_template(data, WORDS, HERE, Classes(names))
    pairs = task.pairs("train", 20, 0)
    tokens = open_template(data, WORDS, HERE).pairs("train", 20, 0)
    shown = [task.tokenizer.tokens[i] for i in tokens.good[:, 0, 0]]
    assert [names[i] for i in pairs.good[:, 0, 0]] == shown


def test_other_kinds_of_data_have_no_classes():
    task = replace(a_task(), answers=("yes", "no"))
    with pytest.raises(HarnessError, match="answers: data of kind 'generator' answer in tokens"):
        open_data(loaded(task))


def test_models_of_other_answers_do_not_fit(tmp_path):
    one = open_file(brackets(tmp_path), WORDS, tmp_path, VERDICT)
    other = open_file(brackets(tmp_path), WORDS, tmp_path, Classes(("balanced", "unbalanced")))
    assert unfit(one, one) is None
    assert "their `answers` are not the same" in (unfit(one, other) or "")


TASK = """\
spec_version: 1
name: verdict
title: Whether brackets close
tokenizer: {kind: words, bos: true}
answers: [unbalanced, balanced]
data:
  kind: file
  path: d.jsonl
  columns: {good: good, bad: bad}
  shares: {train: 1.0, validation: 0.0, test: 0.0}
evaluation: {ablation: interchange, positions: all, discovery_pairs: 2, test_pairs: 2}
model:
  kind: train
  architecture: {n_layers: 1, n_heads: 2, d_model: 8, d_mlp: 0}
  training: {objective: OBJECTIVE, steps: 5}
"""


def issues(folder: Path, text: str) -> list[str]:
    path = folder / "verdict.yaml"
    path.write_text(text)
    source = read_source(path)
    found = check(source, "task")
    if not found:
        found = check_task(Library().task(str(path)))
    return [f"{one.line}:{one.column}: {one.message}" for one in found]


def test_mistakes_are_named_at_their_line(tmp_path):
    brackets(tmp_path)
    fine = TASK.replace("OBJECTIVE", "answer")
    assert not [one for one in issues(tmp_path, fine) if "split" not in one]  # too few rows to test
    (told,) = issues(tmp_path, TASK.replace("OBJECTIVE", "next_token"))
    assert told.startswith("15:25: a model that answers in classes (`answers`) has no output for")
    for wrong, message in (
        ("[balanced]", "5:1: needs at least 2 items"),
        ("[balanced, balanced]", "5:21: "),
        ("[balanced, open]", "8:9: d.jsonl:1: unknown answer 'unbalanced'"),
    ):
        told = issues(tmp_path, fine.replace("[unbalanced, balanced]", wrong))[0]
        assert told.startswith(message), told
    gated = issues(tmp_path, fine.replace("d_mlp: 0", "d_mlp: 0, gated: true"))
    assert gated[0].startswith("14:3: gated is about MLPs, and with d_mlp 0 the model has none")
