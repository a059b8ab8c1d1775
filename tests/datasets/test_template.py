"""Templates: rendering, splits, corruption, answers, enumeration, tokenizer files."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.template_task import NAMES, PLACES, ioi

from harness.datasets.pairs import NO_TARGET, PromptPairs, TaskData
from harness.datasets.template.constraints import Relation, TokenRules, parse_constraint
from harness.datasets.template.spec import AnswerRule, Template, TemplateData, WordList
from harness.datasets.template.task import open_template
from harness.errors import HarnessError
from harness.spec.types import TokenizerSpec

WORDS = TokenizerSpec(kind="words", bos=True)
HERE = Path()


def years(**changes: Any) -> TemplateData:
    data = TemplateData(
        templates=(Template(text="The war lasted from {CC}{YY} to {CC}"),),
        slots={"CC": "centuries", "YY": "years"},
        lists={
            "centuries": WordList(range=(11, 17), digits=2),
            "years": WordList(range=(2, 9), digits=2),
        },
        good=AnswerRule(list="years", after="YY"),
        bad=AnswerRule(list="years", up_to="YY"),
        corruptions={"first": {"YY": "=01"}},
        corruption="first",
    )
    return dataclasses.replace(data, **changes)


def texts(task: TaskData, pairs: PromptPairs) -> list[tuple[list[str], list[str]]]:
    tokens = task.tokenizer.tokens
    return [
        (
            [tokens[i] for i in clean[1:length]],
            [tokens[i] for i in twin[1:length]],
        )
        for clean, twin, length in zip(pairs.clean, pairs.corrupted, pairs.lengths, strict=True)
    ]


def answers(task: TaskData, ids: np.ndarray) -> list[list[str]]:
    return [[task.tokenizer.tokens[i] for i in row[0] if i >= 0] for row in ids]


@pytest.mark.parametrize("corruption", ["abc", "swap"])
def test_ioi_pairs(corruption: str) -> None:
    task = open_template(ioi(corruption=corruption), WORDS, HERE)
    orders = set()
    for split in task.splits:
        pairs = task.pairs(split, 12, 0)
        rows = zip(
            texts(task, pairs),
            answers(task, pairs.good),
            answers(task, pairs.bad),
            pairs.lengths,
            pairs.positions,
            strict=True,
        )
        for (clean, twin), (good,), (bad,), length, position in rows:
            names = [word for word in clean if word in NAMES]
            others = [word for word in twin if word in NAMES]
            assert len(names) == 3
            assert names[2] == bad
            assert sorted(names[:2]) == sorted((good, bad))
            assert good != bad
            changed = [at for at in range(len(clean)) if clean[at] != twin[at]]
            assert len(changed) == 1
            assert clean[changed[0]] == bad
            assert others[:2] == names[:2]
            assert others[2] == good if corruption == "swap" else others[2] not in names
            assert position.tolist() == [length - 1]
            assert ("Today" in clean) == (split == "new_frames")
            orders.add(names[0] == good)
    assert orders == {True, False}


def test_splits_are_disjoint_and_together_everything() -> None:
    task = open_template(ioi(), WORDS, HERE)
    seen: dict[tuple[str, ...], str] = {}
    for split in task.splits:
        with pytest.raises(HarnessError, match=r"has only \d+ distinct prompts") as error:
            task.pairs(split, 10**6, 0)
        count = int(str(error.value).split("only ")[1].split()[0])
        pairs = task.pairs(split, count, 0)
        for clean, _ in texts(task, pairs):
            assert tuple(clean) not in seen, (split, seen[tuple(clean)])
            seen[tuple(clean)] = split
    ordered_pairs = len(NAMES) * (len(NAMES) - 1)
    # two orders of each frame; the first also has a place
    assert len(seen) == 2 * ordered_pairs * (len(PLACES) + 1 + 1)


def test_every_seed_gives_the_whole_split_when_asked_for_all_of_it() -> None:
    task = open_template(ioi(), WORDS, HERE)
    with pytest.raises(HarnessError) as error:
        task.pairs("test", 10**6, 0)
    count = int(str(error.value).split("only ")[1].split()[0])
    whole = [
        {tuple(row) for row in task.pairs("test", count, seed).clean.tolist()} for seed in (0, 1)
    ]
    assert whole[0] == whole[1]
    assert len(whole[0]) == count


def test_large_tasks_are_sampled() -> None:
    words = tuple(f"w{number}" for number in range(400))
    data = ioi(lists={"names": WordList(words=words), "places": WordList(words=PLACES)})
    task = open_template(data, WORDS, HERE)
    pairs = task.pairs("validation", 300, 0)
    assert len(np.unique(pairs.clean, axis=0)) == 300
    assert pairs.digest() == task.pairs("validation", 300, 0).digest()
    assert pairs.digest() != task.pairs("validation", 300, 1).digest()


def test_held_out_words() -> None:
    task = open_template(ioi(held_out={"new_names": {"names": ("Gus", "Hal")}}), WORDS, HERE)
    assert task.splits == ("train", "validation", "test", "new_frames", "new_names")
    for split in task.splits:
        pairs = task.pairs(split, 20, 0)
        for clean, twin in texts(task, pairs):
            held = {"Gus", "Hal"} & set(clean)
            assert bool(held) == (split == "new_names")
            if split != "new_names":
                assert not {"Gus", "Hal"} & set(twin)
    batch = task.training_batch("answer", 200, 0, 0)
    used = {task.tokenizer.tokens[i] for i in np.unique(batch.tokens)}
    assert not used & {"Gus", "Hal", "Today"}


def test_a_split_of_held_out_words_alone() -> None:
    """With no share of its own, `test` holds exactly the prompts with its held-out words."""
    data = ioi(
        shares={"train": 0.9, "validation": 0.1, "test": 0.0},
        held_out={"test": {"places": ("zoo",)}},
    )
    task = open_template(data, WORDS, HERE)
    assert all("zoo" in clean for clean, _ in texts(task, task.pairs("test", 40, 0)))
    assert not any("zoo" in clean for clean, _ in texts(task, task.pairs("train", 40, 0)))


def test_years() -> None:
    task = open_template(years(), WORDS, HERE)
    pairs = task.pairs("train", 30, 0)
    for (clean, twin), good, bad in zip(
        texts(task, pairs), answers(task, pairs.good), answers(task, pairs.bad), strict=True
    ):
        year = clean[5]
        assert good == [f"{number:02d}" for number in range(int(year) + 1, 10)] != []
        assert bad == [f"{number:02d}" for number in range(2, int(year) + 1)]
        assert [a for a, b in zip(clean, twin, strict=True) if a != b] == [year]
        assert twin[5] == "01"
        assert clean[4] == clean[7]


def test_soft_targets_are_all_good_answers() -> None:
    task = open_template(years(), WORDS, HERE)
    batch = task.training_batch("answer", 50, 0, 0)
    assert batch.allowed is not None
    for row, allowed, targets in zip(batch.tokens, batch.allowed, batch.targets, strict=True):
        year = int(task.tokenizer.tokens[row[6]])
        found = [task.tokenizer.tokens[i] for i in np.flatnonzero(allowed[-1])]
        assert found == [f"{number:02d}" for number in range(year + 1, 10)]
        assert targets[-1] != NO_TARGET
        assert (targets[:-1] == NO_TARGET).all()
        assert not allowed[:-1].any()
    sampled = task.training_batch("next_token", 50, 0, 0)
    assert sampled.allowed is None
    assert batch.allowed[np.arange(50), -1, sampled.targets[:, -1]].all()
    np.testing.assert_array_equal(sampled.targets[:, :-1], sampled.tokens[:, 1:])


def test_answer_by_word_and_by_whole_list() -> None:
    data = ioi(good=AnswerRule(word="Ann"), bad=AnswerRule(list="places"))
    task = open_template(data, WORDS, HERE)
    pairs = task.pairs("train", 5, 0)
    assert answers(task, pairs.good) == [["Ann"]] * 5
    assert answers(task, pairs.bad) == [list(PLACES)] * 5


def test_order_constraints_follow_the_list() -> None:
    data = ioi(constraints=("distinct(IO, S, C)", "IO < S"))
    task = open_template(data, WORDS, HERE)
    pairs = task.pairs("train", 40, 0)
    for (good,), (bad,) in zip(answers(task, pairs.good), answers(task, pairs.bad), strict=True):
        assert NAMES.index(good) < NAMES.index(bad)


def test_parse_constraint() -> None:
    assert parse_constraint("A!=B") == [Relation("A", "!=", "B")]
    assert parse_constraint(" A >= B ") == [Relation("A", ">=", "B")]
    assert parse_constraint("distinct( A,B , C)") == [
        Relation("A", "!=", "B"),
        Relation("A", "!=", "C"),
        Relation("B", "!=", "C"),
    ]
    assert parse_constraint(" aligned ") == TokenRules(aligned=True)
    assert parse_constraint("whole_tokens(A)") == TokenRules(whole=frozenset({"A"}))
    assert parse_constraint("one_token( a, b )") == TokenRules(one=frozenset({"a", "b"}))
    wrong = ("A = B", "A !=", "distinct(A)", "distinct(A, )", "A != B != C", "", "whole_tokens()")
    for text in (*wrong, "one_token(a,)", "aligned(A)", "Aligned"):
        with pytest.raises(ValueError, match="not understood"):
            parse_constraint(text)


def test_corruption_of_a_placeholder_follows_the_alias() -> None:
    """{X: C}: whoever is named first is replaced, in both orders."""
    task = open_template(ioi(corruptions={"c": {"X": "C"}}, corruption="c"), WORDS, HERE)
    for clean, twin in texts(task, task.pairs("train", 30, 0)):
        changed = [at for at in range(len(clean)) if clean[at] != twin[at]]
        assert changed == [next(at for at, word in enumerate(clean) if word in NAMES)]


@given(st.integers(2, 5), st.integers(1, 4), st.sampled_from(["A != B", "A < B", "A >= B"]))
@settings(max_examples=25, deadline=None)
def test_enumeration_equals_brute_force(n_a: int, n_b: int, rule: str) -> None:
    words = tuple("abcdefgh"[: max(n_a, n_b)])
    data = TemplateData(
        templates=(Template(text="x {A} {B} y"), Template(text="z {B}")),
        slots={"A": "letters", "B": "letters"},
        lists={"letters": WordList(words=words)},
        good=AnswerRule(word="g"),
        bad=AnswerRule(word="h"),
        corruptions={"c": {"B": "=q"}},
        corruption="c",
        constraints=(rule,),
        shares={"train": 1.0, "validation": 0.0, "test": 0.0},
    )
    task = open_template(data, TokenizerSpec(kind="words"), HERE)
    compare = {"A != B": operator.ne, "A < B": operator.lt, "A >= B": operator.ge}[rule]
    good = [(a, b) for a, b in itertools.product(words, words) if compare(a, b)]
    wanted = {f"x {a} {b} y" for a, b in good} | {f"z {b}" for _, b in good}
    pairs = task.pairs("train", len(wanted), 0)
    found = {
        task.tokenizer.decode(row[:length])
        for row, length in zip(pairs.clean, pairs.lengths, strict=True)
    }
    assert found == wanted
    with pytest.raises(HarnessError, match=f"has only {len(wanted)} distinct"):
        task.pairs("train", len(wanted) + 1, 0)


def test_training_batches_are_stateless_and_of_split_train() -> None:
    task = open_template(ioi(), WORDS, HERE)
    later = task.training_batch("answer", 32, 40, 5)
    task.training_batch("answer", 32, 0, 5)
    again = open_template(ioi(), WORDS, HERE).training_batch("answer", 32, 40, 5)
    np.testing.assert_array_equal(later.tokens, again.tokens)
    held_out = {
        tuple(row)
        for split in ("validation", "test", "new_frames")
        for row in task.pairs(split, 10, 0).clean.tolist()
    }
    for step in range(30):
        rows = task.training_batch("answer", 64, step, 0).tokens.tolist()
        assert not {tuple(row) for row in rows} & held_out


def test_reproducible_and_frozen() -> None:
    assert open_template(ioi(), WORDS, HERE).pairs("test", 10, 1).digest() == (
        "9ce1efcade5c34b8360af2546d394c13e2b0698b5c035609822642f6dd404c9c"
    )


# ------------------------------------------------------------------ other tokenizers
def test_characters() -> None:
    data = TemplateData(
        templates=(Template(text="{A}{B}={A}"),),
        slots={"A": "letters", "B": "letters"},
        lists={"letters": WordList(words=tuple("abcdefgh"))},
        good=AnswerRule(slot="B"),
        bad=AnswerRule(slot="A"),
        corruptions={"c": {"B": "A"}},
        corruption="c",
        constraints=("A != B",),
    )
    task = open_template(data, TokenizerSpec(kind="characters"), HERE)
    pairs = task.pairs("train", 10, 0)
    for clean, twin, good in zip(pairs.clean, pairs.corrupted, pairs.good, strict=True):
        text = task.tokenizer.decode(clean)
        assert (text[0], text[2:]) == (text[3], "=" + text[0])
        assert task.tokenizer.decode(twin) == text[0] * 2 + "=" + text[0]
        assert task.tokenizer.tokens[good[0, 0]] == text[1]


def test_moves_are_for_the_generator() -> None:
    with pytest.raises(HarnessError, match="only for the othello generator"):
        open_template(ioi(), TokenizerSpec(kind="moves"), HERE)


def test_opening_raises_every_problem_at_once() -> None:
    data = ioi(corruption="ab", constraints=("IO != Q",), good=AnswerRule(slot="OI"))
    with pytest.raises(HarnessError) as error:
        open_template(data, WORDS, HERE)
    message = str(error.value)
    for part in ("data.corruption: unknown corruption", "data.constraints[0]", "data.good.slot"):
        assert part in message
