"""Tables in templates: words of one row belong together, wherever they are drawn."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets.test_template_tokens import byte_level

from harness.cli.check import issues_of
from harness.datasets.pairs import PromptPairs, TaskData
from harness.datasets.template.spec import AnswerRule, Template, TemplateData, WordList
from harness.datasets.template.task import TemplateTask, open_template
from harness.errors import HarnessError
from harness.runs.plan.identities import task_identity
from harness.spec.identity import identity_fields
from harness.spec.load import Library
from harness.spec.types import TokenizerSpec

FACTS = (
    ("France", "Paris"), ("Norway", "Oslo"), ("Peru", "Lima"), ("Egypt", "Cairo"),
    ("Kenya", "Nairobi"), ("Cuba", "Havana"),
)  # fmt: skip
CAPITALS = dict(FACTS)
WORDS = TokenizerSpec(kind="words", bos=False)
HERE = Path()


def capitals(**changes: Any) -> TemplateData:
    data = TemplateData(
        templates=(
            Template(text="In {WHEN} the capital of {LAND} is"),
            Template(text="{LAND} is ruled from"),
            Template(text="not from {WRONG} but"),
        ),
        slots={
            "LAND": "facts.0",
            "OTHER": "facts.0",
            "CAPITAL": "facts.1",
            "WRONG": "facts.1",
            "WHEN": "times",
        },
        lists={"times": WordList(words=("May", "June"))},
        tables={"facts": FACTS},
        good=AnswerRule(slot="CAPITAL"),
        bad=AnswerRule(slot="WRONG"),
        corruptions={"other": {"LAND": "OTHER", "WRONG": "CAPITAL"}},
        corruption="other",
        constraints=("LAND != OTHER",),
        shares={"train": 0.5, "validation": 0.2, "test": 0.3},
    )
    return dataclasses.replace(data, **changes)


def shown(task: TaskData, pairs: PromptPairs) -> list[tuple[list[str], list[str], str, str]]:
    tokens = task.tokenizer.tokens
    return [
        (
            [tokens[one] for one in clean[:length]],
            [tokens[one] for one in twin[:length]],
            tokens[good],
            tokens[bad],
        )
        for clean, twin, length, good, bad in zip(
            pairs.clean, pairs.corrupted, pairs.lengths, pairs.good[:, 0, 0], pairs.bad[:, 0, 0],
            strict=True,
        )
    ]  # fmt: skip


@pytest.mark.parametrize("countable", [1, 10**6])
def test_slots_of_one_row_belong_together(countable: int) -> None:
    """Drawn one by one, or listed."""
    task = open_template(capitals(), WORDS, HERE)
    task.source.countable = countable
    seen = set()
    for split in task.splits:
        pairs = task.pairs(split, 99, 0, at_most=True)
        for clean, twin, good, bad in shown(task, pairs):
            assert good != bad
            seen.add(" ".join(clean))
            if clean[-1] == "but":
                assert (clean[2], twin[2]) == (bad, good)
                continue
            place = 0 if clean[-1] == "from" else 5
            assert CAPITALS[clean[place]] == good
            assert CAPITALS[twin[place]] == bad
    # Two months and a land, a land, and the capital of another.
    assert len(seen) == 12 + 6 + 6


def test_only_rows_are_counted() -> None:
    task = open_template(capitals(), WORDS, HERE)
    assert isinstance(task, TemplateTask)
    assert task.source.fillings.count("train") == 24
    rows = task.source.everything(np.random.default_rng(0), "train")
    assert len(rows["lengths"]) == 24


def test_words_that_are_held_out_keep_the_rest_of_their_row() -> None:
    data = capitals(held_out={"new": {"facts.0": ("Peru",)}, "test": {"facts.1": ("Oslo",)}})
    task = open_template(data, WORDS, HERE)
    for clean, twin, good, bad in shown(task, task.pairs("new", 99, 0, at_most=True)):
        assert {*clean, *twin, good, bad} & {"Peru", "Lima"}
    assert "Norway" in {row[0][0] for row in shown(task, task.pairs("test", 99, 0, at_most=True))}
    train = shown(task, task.pairs("train", 99, 0, at_most=True))
    words = {word for clean, twin, *answers in train for word in (*clean, *twin, *answers)}
    assert words.isdisjoint({"Peru", "Lima", "Norway", "Oslo"})


def test_one_token_leaves_out_whole_rows(tmp_path: Path) -> None:
    lands = [land for land, _ in FACTS]
    byte_level(tmp_path / "t.json", [*lands, "Paris", "Oslo", "Lima", "is", "ruled", "from"])
    data = capitals(
        templates=(Template(text="so {LAND} is ruled from"),),
        slots={name: of for name, of in capitals().slots.items() if name != "WHEN"},
        constraints=("LAND != OTHER", "one_token(facts.1)"),
        shares={"train": 1.0, "validation": 0.0, "test": 0.0},
    )
    task = open_template(data, TokenizerSpec(kind="file", path="t.json"), tmp_path)
    pairs = task.pairs("train", 3, 0)
    used = {task.tokenizer.decode([one]).strip() for one in pairs.good[:, 0, 0]}
    assert used == {"Paris", "Oslo", "Lima"}
    for clean, _, good, _ in shown(task, pairs):
        assert CAPITALS[clean[2].strip("Ġ")] == good.strip("Ġ")


def test_singular_and_plural() -> None:
    """A column may repeat words; the corrupted prompt has the other number."""
    nouns = (("key", "keys"), ("sheep", "sheep"), ("cat", "cats"), ("dog", "dogs"))
    data = TemplateData(
        templates=(Template(text="The {ONE} here"),),
        slots={"ONE": "nouns.0", "MANY": "nouns.1", "IS": "verbs.0", "ARE": "verbs.1"},
        tables={"nouns": nouns, "verbs": (("is", "are"), ("was", "were"), ("is", "were"))},
        good=AnswerRule(slot="IS"),
        bad=AnswerRule(slot="ARE"),
        corruptions={"number": {"ONE": "MANY"}},
        corruption="number",
        constraints=("ONE != MANY",),
        shares={"train": 1.0, "validation": 0.0, "test": 0.0},
    )
    task = open_template(data, WORDS, HERE)
    rows = shown(task, task.pairs("train", 3, 0))
    assert {(clean[1], twin[1]) for clean, twin, _, _ in rows} == {*nouns} - {nouns[1]}
    slots = {"ONE": "nouns.0", "MANY": "nouns.1"}
    good, bad = AnswerRule(list="verbs.0"), AnswerRule(list="verbs.1")
    listed = dataclasses.replace(data, slots=slots, good=good, bad=bad)
    pairs = open_template(listed, WORDS, HERE).pairs("train", 3, 0)
    assert pairs.good.shape == (3, 1, 2)  # "is" once
    after = dataclasses.replace(data, good=AnswerRule(list="verbs.0", after="IS"), bad=bad)
    with pytest.raises(HarnessError, match=r"each word stands once, unlike 'verbs\.0'"):
        open_template(after, WORDS, HERE)


TASK = """spec_version: 1
name: toy
title: Toy
tokenizer: {kind: words}
data:
  kind: template
  templates: ["the capital of {LAND} is"]
  tables:
    facts:
      - [France, Paris]
      - [Norway, Oslo]
  slots: {LAND: facts.0, CAPITAL: facts.1, OTHER: facts.0, WRONG: facts.1}
  constraints: [LAND != OTHER]
  good: CAPITAL
  bad: WRONG
  corruptions: {other: {LAND: OTHER}}
  corruption: other
  shares: {train: 1, validation: 0, test: 0}
evaluation: {ablation: interchange, positions: all, discovery_pairs: 2, test_pairs: 2}
model:
  kind: train
  architecture: {n_layers: 1, n_heads: 1, d_model: 8}
  training: {objective: answer, steps: 1}
"""


@pytest.mark.parametrize(
    ("old", "new", "where", "line", "said"),
    [
        ("[Norway, Oslo]", "[Norway, Oslo, Bergen]", "data.tables.facts.1", 11, "3 words, and the"),
        ("[Norway, Oslo]", "[France, Paris]", "data.tables.facts", 9, "repeated rows: France"),
        ("[Norway, Oslo]", "[Norway, New Oslo]", "data.tables.facts.1.1", 11, "must be one token"),
        ("[Norway, Oslo]", "[Norway]", "data.tables.facts.1", 11, "at least 2"),
        ("WRONG: facts.1", "WRONG: facts", "data.slots.WRONG", 12, "one of its columns, facts.0 …"),
        ("WRONG: facts.1", "WRONG: facts.7", "data.slots.WRONG", 12, "did you mean 'facts."),
        ("  tables:\n    facts:\n      - [France, Paris]\n      - [Norway, Oslo]\n", "", "data", 5,
         "give lists or tables"),
    ],
)  # fmt: skip
def test_mistakes_are_named_by_place(
    tmp_path: Path, old: str, new: str, where: str, line: int, said: str
) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(TASK.replace(old, new))
    issues = [one for one in issues_of(Library(), path) if one.where == where]
    assert issues, issues_of(Library(), path)
    assert issues[0].line == line
    assert said in issues[0].message


def test_a_table_is_part_of_the_id_and_its_absence_of_none(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(TASK)
    one = Library().task(str(path))
    path.write_text(TASK.replace("Oslo", "Bergen"))
    assert task_identity(one) != task_identity(Library().task(str(path)))
    without = dataclasses.replace(capitals(), tables=None, lists={"a": WordList(words=("b",))})
    assert "tables" not in identity_fields(without)


def test_shares_that_give_few_prompts_are_suggested(tmp_path: Path) -> None:
    """Of a small template task too: there are ten prompts, and five are wanted to test."""
    path = tmp_path / "toy.yaml"
    more = "".join(f"      - [L{number}, C{number}]\n" for number in range(8))
    text = TASK.replace("Oslo]\n", f"Oslo]\n{more}").replace("test_pairs: 2", "test_pairs: 5")
    path.write_text(text)
    issues = issues_of(Library(), path)
    (shares,) = re.findall(r"`(shares: \{.*?\})`", "".join(one.message for one in issues))
    path.write_text(text.replace("shares: {train: 1, validation: 0, test: 0}", shares))
    assert issues_of(Library(), path) == []
