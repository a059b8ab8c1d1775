"""Boolean expressions: the values are Python's, twins differ in one token, forms and tokenizers."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.datasets.generators import generator
from harness.datasets.generators.boolean_expressions.prompts import CHOICES, FORMS
from harness.datasets.generators.boolean_expressions.source import BooleanParams
from harness.datasets.generators.boolean_expressions.trees import (
    LEAVES,
    OPERATORS,
    WORDS,
    count_slots,
    count_trees,
    trees,
    truth_table,
    written,
)
from harness.datasets.generators.spec import GeneratorData
from harness.datasets.pairs import NO_TARGET, PromptPairs, TaskData, unfit
from harness.datasets.tokenizers import split_words
from harness.errors import HarnessError
from harness.spec.schema import load_schema
from harness.spec.types import TokenizerSpec

WORDS_TOKENIZER = TokenizerSpec(kind="words", bos=True)


def open_task(tokenizer: TokenizerSpec = WORDS_TOKENIZER, **params: Any) -> TaskData:
    data = GeneratorData(generator="boolean_expressions", params=params)
    return generator("boolean_expressions").open_data(data, tokenizer)


def texts(task: TaskData, pairs: PromptPairs, side: str = "clean") -> list[str]:
    first = int(task.tokenizer.bos is not None)
    rows = zip(getattr(pairs, side), pairs.lengths, strict=True)
    return [task.tokenizer.decode(row[first:length].tolist()) for row, length in rows]


def drawn(task: TaskData, n: int, side: str = "clean") -> set[str]:
    """The different prompts among n random ones."""
    source: Any = task.source  # type: ignore[attr-defined]
    return set(texts(task, source.pairs(source.draw(np.random.default_rng(0), n, "", True)), side))


def spelled(tree: Any, filling: int) -> str:
    """The expression that a filling of a tree's slots means."""
    found = []
    for number in written(tree):
        slot = -1 - number
        kind = OPERATORS if slot % 2 else LEAVES
        found.append(WORDS[number if number >= 0 else kind + (filling >> slot & 1)])
    return " ".join(found)


# ------------------------------------------------------------------ trees
@pytest.mark.parametrize("leaves", [1, 2, 3, 4])
@pytest.mark.parametrize("nots", [0, 1, 2])
def test_truth_tables_are_pythons(leaves: int, nots: int) -> None:
    for tree in trees(leaves, 2, nots)[::3]:
        table = truth_table(tree)
        assert len(table) == 2 ** count_slots(leaves)
        for filling in range(0, len(table), 7):
            assert table[filling] == eval(spelled(tree, filling)), spelled(tree, filling)


def by_grammar(leaves: int, depth: int, nots: int) -> list[tuple[str, str]]:
    """Every expression with its slots as L and O, and its outermost part: L, O or not."""

    def operand(text: str, outermost: str) -> str:
        return f"( {text} )" if outermost == "O" else text

    found = [("L", "L")] if leaves == 1 else []
    for left in range(1, leaves) if depth else ():
        one = by_grammar(left, depth - 1, nots)
        other = by_grammar(leaves - left, depth - 1, nots)
        found += [(f"{operand(*a)} O {operand(*b)}", "O") for a, b in product(one, other)]
    inner = by_grammar(leaves, depth, nots - 1) if nots else []
    return found + [(f"not {operand(*one)}", "not") for one in inner if one[1] != "not"]


@pytest.mark.parametrize(
    ("leaves", "depth", "nots"), [(1, 0, 1), (2, 1, 1), (3, 2, 1), (4, 2, 1), (5, 3, 1), (3, 2, 2)]
)
def test_every_tree_is_there_once(leaves: int, depth: int, nots: int) -> None:
    found = Counter(
        " ".join(
            WORDS[one] if one >= 0 else ("O" if (-1 - one) % 2 else "L") for one in written(tree)
        )
        for tree in trees(leaves, depth, nots)
    )
    assert found == Counter(text for text, _ in by_grammar(leaves, depth, nots))
    assert count_trees(leaves, depth, nots) == len(trees(leaves, depth, nots))


def test_sizes_by_hand() -> None:
    assert [count_trees(leaves, 3, 1) for leaves in range(1, 7)] == [2, 5, 22, 118, 330, 750]
    assert trees(5, 2, 0) == ()
    assert count_trees(5, 2, 0) == 0


# ------------------------------------------------------------------ pairs
def nesting(tree: ast.AST, kind: type) -> int:
    """Most nodes of a kind on a path from the root."""
    inner = max((nesting(child, kind) for child in ast.iter_child_nodes(tree)), default=0)
    return inner + isinstance(tree, kind)


def test_pairs() -> None:
    task = open_task()
    seen: dict[str, str] = {}
    for split in task.splits:
        pairs = task.pairs(split, 400, 0)
        clean, twins = texts(task, pairs), texts(task, pairs, "corrupted")
        assert ((pairs.clean != pairs.corrupted).sum(axis=1) == 1).all()
        assert pairs.clean.shape[1] == task.longest
        values, sizes = [], []
        for text, twin, good, bad in zip(
            clean, twins, pairs.good[:, 0, 0], pairs.bad[:, 0, 0], strict=True
        ):
            assert text.endswith(" is")
            value = eval(text.removesuffix(" is"))
            assert task.tokenizer.tokens[good] == str(value)
            assert task.tokenizer.tokens[bad] == str(not value)
            assert eval(twin.removesuffix(" is")) == (not value)
            changed = [(a, b) for a, b in zip(text.split(), twin.split(), strict=True) if a != b]
            assert len(changed) == 1
            assert set(changed[0]) in ({"True", "False"}, {"and", "or"})
            leaves = text.count("True") + text.count("False")
            assert 2 <= leaves <= 6
            tree = ast.parse(text.removesuffix(" is"), mode="eval")
            assert nesting(tree, ast.BoolOp) <= 3
            assert nesting(tree, ast.Not) <= 1
            assert seen.setdefault(text, split) == split
            values.append(value)
            sizes.append(leaves)
        assert 0.42 < np.mean(values) < 0.58
        if split == "train":
            assert {2, 3, 4, 5, 6} == set(sizes)


def test_leaves_and_operators_are_both_flipped() -> None:
    task = open_task()
    pairs = task.pairs("train", 600, 0)
    at = (pairs.clean != pairs.corrupted).argmax(axis=1)
    kinds = Counter(
        task.tokenizer.tokens[index] for index in pairs.clean[np.arange(len(pairs)), at]
    )
    assert min(kinds[word] for word in ("True", "False", "and", "or")) > 60


def test_an_expression_without_a_twin_is_left_out() -> None:
    """No one flip turns round "( True or True ) or ( True or True )"."""
    task = open_task(leaves=[4, 4], depth=2, nots=0)
    found = {text.removesuffix(" is") for text in drawn(task, 5000)}
    (tree,) = trees(4, 2, 0)
    table = truth_table(tree)
    turned = {
        spelled(tree, filling)
        for filling in range(len(table))
        if any(table[filling ^ (1 << slot)] != table[filling] for slot in range(7))
    }
    assert found == turned
    assert 0 < len(turned) < len(table)


def test_batches() -> None:
    task = open_task()
    for objective in ("answer", "next_token"):
        batch = task.training_batch(objective, 64, 3, 1)  # type: ignore[arg-type]
        last = batch.targets[np.arange(64), batch.lengths - 1]
        for row, length, answer in zip(batch.tokens, batch.lengths, last, strict=True):
            text = task.tokenizer.decode(row[1:length].tolist())
            assert task.tokenizer.tokens[answer] == str(eval(text.removesuffix(" is")))
        inner = batch.targets[np.arange(64), batch.lengths - 2]
        assert (inner == NO_TARGET).all() == (objective == "answer")


def test_pairs_are_frozen() -> None:
    """Stored results name their data by this digest."""
    task = open_task()
    assert task.pairs("test", 50, 1).digest() == open_task().pairs("test", 50, 1).digest()
    assert task.pairs("test", 50, 1).digest() == (
        "8a270aec4ba48e81f7ea0a4c930598b664ba35a54880170be9ec9aa76d74ea37"
    )


# ------------------------------------------------------------------ forms and tokenizers
@pytest.mark.parametrize("form", ["few_shot", "instruction"])
def test_forms_with_words(form: Any) -> None:
    task = open_task(form=form)
    wanted = " ".join(FORMS[form].before.split())
    pairs = task.pairs("test", 50, 0)
    for text, good in zip(texts(task, pairs), pairs.good[:, 0, 0], strict=True):
        if form == "few_shot":
            *shots, query = re.findall(r"(.*?) is(?: (True|False) ?)?(?= |$)", text)
            assert len(shots) == 3
            assert all(str(eval(shot)) == value for shot, value in shots)
            assert query[0] not in FORMS[form].shots
            assert text.startswith(wanted)
        else:
            query = re.findall(r"SYS > > (.*) \[ /", text)
        expression = query[0].split("SYS > > ")[-1]
        assert task.tokenizer.tokens[good] == str(eval(expression))


# ------------------------------------------------------------------ both forms
SMALL = {"leaves": [1, 4], "depth": 2}
HALVES: list[Any] = ["both_few_shot", "both_instruction"]


def expression(text: str) -> tuple[str, str]:
    """The form of a prompt in words, and what it asks for."""
    for half in HALVES:
        form = FORMS[CHOICES[half].drawn[0]]
        before, after = (" ".join(split_words(one)) for one in (form.before, form.after))
        if text.startswith(before) and text.endswith(after):
            return half, text.removeprefix(before).removesuffix(after).strip()
    raise AssertionError(text)


def asked(task: TaskData, split: str, n: int) -> Counter[tuple[str, str]]:
    pairs = task.pairs(split, n, 0, at_most=True)
    found = []
    for text, good in zip(texts(task, pairs), pairs.good[:, 0, 0], strict=True):
        form, query = expression(text)
        assert task.tokenizer.tokens[good] == str(eval(query)), text
        found.append((form, query))
    return Counter(found)


def test_both_forms_share_words_lengths_and_splits() -> None:
    """A model of `both` can be given its halves, and has trained on no expression they test."""
    both = open_task(form="both", **SMALL)
    for half in HALVES:
        task = open_task(form=half, **SMALL)
        assert unfit(both, task) is None
    assert unfit(open_task(form="few_shot", **SMALL), both) is not None
    trained = {query for _, query in asked(both, "train", 1000)}
    for half in HALVES:
        tested = asked(open_task(form=half, **SMALL), "test", 300)
        assert {form for form, _ in tested} == {half}
        assert not trained & {query for _, query in tested}
        assert len(tested) > 100


def test_both_has_half_of_its_prompts_in_each_form() -> None:
    both = open_task(form="both", **SMALL)
    forms = Counter(form for form, _ in asked(both, "train", 1000).elements())
    assert min(forms[half] for half in HALVES) > 450
    batch = both.training_batch("answer", 1000, 0, 0)
    rows = zip(batch.tokens, batch.lengths, batch.targets, strict=True)
    counted: Counter[str] = Counter()
    for row, length, targets in rows:
        form, query = expression(both.tokenizer.decode(row[1:length].tolist()))
        counted[form] += 1
        assert both.tokenizer.tokens[targets[length - 1]] == str(eval(query))
    assert min(counted[half] for half in HALVES) > 450


def test_the_halves_ask_for_the_same_expressions() -> None:
    one, other = (asked(open_task(form=half, **SMALL), "test", 100) for half in HALVES)
    assert [query for _, query in one] == [query for _, query in other]
    shots = CHOICES["both"].shots
    every = {
        query for half in HALVES for _, query in asked(open_task(form=half, **SMALL), "train", 1000)
    }
    assert len(every) > 500
    assert not every & set(shots)


def test_solved_expressions_are_not_asked_for() -> None:
    """With three leaves they would come up often."""
    for form in ("few_shot", "plain"):
        task = open_task(form=form, leaves=[3, 3], depth=2)
        prompts = drawn(task, 10_000) | drawn(task, 10_000, "corrupted")
        assert len(prompts) > 500
        queries = {re.split(r" is (?:True|False) ", one)[-1].removesuffix(" is") for one in prompts}
        assert bool(queries & set(FORMS["few_shot"].shots)) == (form == "plain")


def word_level(path: Path, **changes: Any) -> TokenizerSpec:
    """Write a tokenizer that splits at spaces and punctuation, one token a word."""
    words = sorted({*WORDS, "is", "<s>", "<unk>", "o", "r"})
    spec = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
        "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": {word: at for at, word in enumerate(words)},
                  "unk_token": "<unk>"},
    }  # fmt: skip
    path.write_text(json.dumps(spec | changes), encoding="utf-8")
    return TokenizerSpec(kind="file", path=str(path), bos="<s>")


def test_a_tokenizer_file_gives_the_same_prompts(tmp_path: Path) -> None:
    params = {"leaves": [1, 3], "depth": 2}
    theirs = open_task(word_level(tmp_path / "t.json"), **params)
    assert drawn(theirs, 20_000) == drawn(open_task(**params), 20_000)
    pairs = theirs.pairs("train", 80, 0)
    assert (pairs.clean[:, 0] == theirs.tokenizer.bos).all()
    for text, good in zip(texts(theirs, pairs), pairs.good[:, 0, 0], strict=True):
        assert theirs.tokenizer.tokens[good] == str(eval(text.removesuffix(" is")))


@pytest.mark.parametrize("form", ["plain", "few_shot", "instruction"])
def test_gpt2_tokens(form: Any, reference_file: Callable[[str], Path]) -> None:
    path = reference_file("gpt2_tokenizer/tokenizer.json")
    task = open_task(TokenizerSpec(kind="file", path=str(path)), form=form)
    pairs = task.pairs("test", 100, 0)
    assert pairs.lengths.max() <= task.longest
    assert ((pairs.clean != pairs.corrupted).sum(axis=1) == 1).all()
    space = FORMS[form].space
    for text, good, row, length in zip(
        texts(task, pairs), pairs.good[:, 0, 0], pairs.clean, pairs.lengths, strict=True
    ):
        assert text.startswith(FORMS[form].before)
        assert text.endswith(FORMS[form].after)
        query = text.removeprefix(FORMS[form].before).removesuffix(FORMS[form].after)
        answer = f"{space}{eval(query)}"
        assert task.tokenizer.decode([good]) == answer
        assert task.tokenizer.encode(text + answer) == [*row[:length], good]


@pytest.mark.parametrize(
    ("word", "pieces", "message"),
    [
        ("or", "o r", "pairs are not aligned"),
        ("True", "is r", "must be exactly one token but is 2"),
    ],
)
def test_a_tokenizer_that_splits_a_word_is_refused(
    tmp_path: Path, word: str, pieces: str, message: str
) -> None:
    split = {"type": "Replace", "pattern": {"String": word}, "content": pieces}
    spec = word_level(tmp_path / "t.json", normalizer=split)
    with pytest.raises(HarnessError, match=message):
        open_task(spec).pairs("train", 50, 0)


def test_an_answer_that_joins_the_prompt_is_refused(tmp_path: Path) -> None:
    joined = {"type": "Replace", "pattern": {"String": "'True"}, "content": "' is"}
    spec = word_level(tmp_path / "t.json", normalizer=joined)
    assert open_task(spec).tokenizer.size > 0
    task = open_task(spec, form="instruction")
    for refused in (
        lambda: task.pairs("test", 2, 0),
        lambda: task.training_batch("answer", 9, 0, 0),
    ):
        with pytest.raises(HarnessError, match=r"the answer 'True' is not how .* goes on: "):
            refused()
    data = GeneratorData(
        generator="boolean_expressions", params={"form": "instruction"}, continues=False
    )
    assert len(generator("boolean_expressions").open_data(data, spec).pairs("test", 2, 0)) == 2


# ------------------------------------------------------------------ parameters
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"leaves": [6, 2]}, "fewest and most"),
        ({"leaves": [0, 2]}, "fewest and most"),
        ({"leaves": [2]}, "fewest and most"),
        ({"depth": 2}, "6 leaves do not fit into depth 2"),
        ({"depth": -1}, "must not be negative"),
        ({"nots": -1}, "must not be negative"),
        ({"leaves": [2, 16], "depth": 8}, "more than 8388608 expressions"),
        ({"form": "chat"}, "is not one of plain, few_shot, instruction, both, "),
        ({"leafs": [2, 3]}, "did you mean 'leaves'?"),
    ],
)
def test_impossible_parameters(params: dict[str, Any], message: str) -> None:
    start = time.perf_counter()
    with pytest.raises(HarnessError) as error:
        open_task(**params)
    assert message in str(error.value)
    assert time.perf_counter() - start < 1


def test_parameters_are_those_of_the_schema() -> None:
    schema = load_schema("task")["$defs"]["boolean_expressions"]["properties"]
    fields = {one.name: one.default for one in dataclasses.fields(BooleanParams)}
    assert {
        name: tuple(part["default"]) if isinstance(part["default"], list) else part["default"]
        for name, part in schema.items()
    } == fields
    assert schema["form"]["enum"] == list(CHOICES)


def test_one_leaf() -> None:
    found = drawn(open_task(leaves=[1, 1], depth=0), 200)
    assert found == {"True is", "False is", "not True is", "not False is"}
