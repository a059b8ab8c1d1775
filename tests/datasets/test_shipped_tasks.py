"""The shipped tasks: sound, disjoint, and as described.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from support.split_checks import check_disjoint, check_held_out_sentences

from harness.datasets.check import check_task
from harness.datasets.open import content_digests, open_data
from harness.datasets.pairs import NO_TARGET, unfit
from harness.datasets.stream import StreamData
from harness.datasets.template.spec import TemplateData
from harness.datasets.tokenizers import split_words
from harness.spec.load import Library

HEADLINE = ["bracket_matching", "quote_closing", "ioi", "othello_moves"]
PAPER = ["ioi_t1", "greater_than", "gendered_pronoun", "boolean_expressions"]
BOOLEAN_FORMS = ["boolean_forms", "boolean_few_shot", "boolean_instruction"]
TASKS = [*HEADLINE, "othello_moves_8x8", *PAPER, "ioi_abcd", *BOOLEAN_FORMS]
CHANGED = {
    "ioi_t1": 3,
    "ioi_abcd": 3,
}  # tokens that differ between the twins of a pair, elsewhere one


@pytest.mark.parametrize("name", TASKS)
def test_tasks_are_sound(name: str) -> None:
    loaded = Library().task(name)
    assert [str(issue) for issue in check_task(loaded)] == []
    assert loaded.source.text.startswith("# yaml-language-server: $schema=../specs/task.schema")
    assert ("headline" in loaded.spec.tags) == (name in HEADLINE)
    assert content_digests(loaded) == {}


@pytest.mark.parametrize("name", TASKS)
def test_pairs_are_well_formed_and_splits_disjoint(name: str) -> None:
    """[20] Twins are aligned token by token, and no prompt is in two splits."""
    data = open_data(Library().task(name))
    check_disjoint(data)
    for split in data.splits:
        pairs = data.pairs(split, 64, 0)
        assert pairs.clean.shape == pairs.corrupted.shape
        assert pairs.clean.shape[1] <= data.longest
        columns = np.arange(pairs.clean.shape[1])
        padding = columns >= pairs.lengths[:, None]
        assert not pairs.clean[padding].any()
        assert not pairs.corrupted[padding].any()
        assert ((pairs.clean != pairs.corrupted).sum(axis=1) == CHANGED.get(name, 1)).all()
        np.testing.assert_array_equal(pairs.positions, pairs.lengths[:, None] - 1)
        assert (pairs.good[:, 0, 0] >= 0).all()
        assert (pairs.bad[:, 0, 0] >= 0).all()
        for array in (pairs.clean, pairs.corrupted, pairs.good, pairs.bad):
            assert array.dtype.kind == "i"
            assert array.max() < data.tokenizer.size


@pytest.mark.matrix
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("objective", ["answer", "next_token"])
def test_training_batches_fit_the_model(name: str, objective: str) -> None:
    data = open_data(Library().task(name))
    batch = data.training_batch(objective, 16, 0, 0)  # type: ignore[arg-type]
    assert batch.tokens.shape == batch.targets.shape
    assert batch.tokens.shape[0] == len(batch.lengths) == 16
    assert batch.tokens.shape[1] <= data.longest
    outside = np.arange(batch.tokens.shape[1]) >= batch.lengths[:, None]
    assert (batch.targets[outside] == NO_TARGET).all()
    assert ((batch.targets != NO_TARGET).sum(axis=1) > 0).all()
    assert batch.targets.max() < data.tokenizer.size


def template_data(name: str) -> TemplateData:
    data = Library().task(name).spec.data
    assert isinstance(data, TemplateData)
    return data


def literal_words(text: str) -> set[str]:
    return set(split_words(re.sub(r"\{\w+\}", " ", text)))


@pytest.mark.parametrize(
    ("name", "frames", "held_out"), [("ioi", 60, 12), ("gendered_pronoun", 25, 3)]
)
def test_many_frames_and_held_out_ones_of_known_words(
    name: str, frames: int, held_out: int
) -> None:
    templates = template_data(name).templates
    known = [template.text for template in templates if template.split is None]
    new = [template.text for template in templates if template.split == "new_frames"]
    assert len(known) >= frames
    assert len(new) >= held_out
    assert len(known) + len(new) == len(templates)
    words = set().union(*(literal_words(text) for text in known))
    for text in new:
        assert literal_words(text) <= words, text


@pytest.mark.parametrize("name", ["ioi", "ioi_abcd", "greater_than", "gendered_pronoun"])
def test_held_out_sentences_are_of_no_other_split(name: str) -> None:
    """[20] Also of tasks in `test_brought_tasks` and `test_mib_tasks`: of all with such a split."""
    check_held_out_sentences(open_data(Library().task(name)), template_data(name))


@pytest.mark.parametrize("name", ["ioi", "ioi_t1"])
def test_ioi_shows_both_orders_equally(name: str) -> None:
    task = open_data(Library().task(name))
    pairs = task.pairs("train", 1000, 0)
    names = set(template_data(name).lists["names"].words or ())
    ids = np.array([index for index, token in enumerate(task.tokenizer.tokens) if token in names])
    first = [row[np.isin(row, ids)][0] for row in pairs.clean]
    assert 0.45 < np.mean(first == pairs.good[:, 0, 0]) < 0.55


def test_greater_than_uses_yaml_alone_and_orders_its_years() -> None:
    """[20] The first good year is the one after the year that is shown."""
    loaded = Library().task("greater_than")
    assert isinstance(loaded.spec.data, TemplateData)
    task = open_data(loaded)
    for row in task.pairs("test", 50, 0).good[:, 0]:
        years = [int(task.tokenizer.tokens[index]) for index in row if index >= 0]
        assert all(second == first + 1 for first, second in pairwise(years))
        assert years[-1] == 98


def test_gendered_pronoun_asks_for_both_equally_and_by_the_name() -> None:
    task = open_data(Library().task("gendered_pronoun"))
    lists = template_data("gendered_pronoun").lists
    pairs = task.pairs("train", 1000, 0)
    tokens = task.tokenizer.tokens
    answers = []
    for clean, twin, good, bad in zip(
        pairs.clean, pairs.corrupted, pairs.good[:, 0, 0], pairs.bad[:, 0, 0], strict=True
    ):
        answers.append(tokens[good])
        assert {tokens[good], tokens[bad]} == {"she", "he"}
        own, other = ("women", "men") if tokens[good] == "she" else ("men", "women")
        assert tokens[clean[2]] in (lists[own].words or ())
        assert tokens[twin[2]] in (lists[other].words or ())
    assert 0.45 < np.mean([answer == "she" for answer in answers]) < 0.55


def test_ioi_abcd_is_ioi_with_other_twins() -> None:
    """Its prompts have the same tokens and splits, and its model is that of ioi."""
    library = Library()
    loaded, plain = library.task("ioi_abcd"), library.task("ioi")
    assert loaded.trained_on is not None
    assert loaded.trained_on.spec == plain.spec
    assert replace(loaded.spec.model, task=None) == plain.spec.model
    task, other = open_data(loaded), open_data(plain)
    assert unfit(other, task) is unfit(task, other) is None
    assert isinstance(task, StreamData)
    assert isinstance(other, StreamData)
    rows = task.source.draw(np.random.default_rng(0), 3000, "test", True)
    splits = task.source.split_of(rows, task.shares)
    rows["words"] = rows["words"][:, [0, 1, 2, 5, 6]]  # ioi has no D and no E
    np.testing.assert_array_equal(splits, other.source.split_of(rows, other.shares))
    assert set(splits) >= {0, 1, 2}


@pytest.mark.parametrize("name", BOOLEAN_FORMS)
def test_the_forms_of_boolean_expressions_share_a_model(name: str) -> None:
    library = Library()
    loaded, forms = library.task(name), library.task("boolean_forms")
    assert loaded.trained_on is not None
    assert loaded.trained_on.spec == forms.spec
    assert loaded.spec.model == forms.spec.model


def test_the_twin_in_ioi_abcd_names_three_other_people() -> None:
    task = open_data(Library().task("ioi_abcd"))
    names = set(template_data("ioi_abcd").lists["names"].words or ())
    pairs = task.pairs("test", 200, 0)
    tokens = task.tokenizer.tokens
    for clean, twin in zip(pairs.clean, pairs.corrupted, strict=True):
        people = {tokens[one] for one in clean} & names
        others = [tokens[one] for one in twin if tokens[one] in names]
        assert len(people) == 2
        assert len(set(others)) == 3
        assert not people & set(others)


def test_the_twin_in_ioi_t1_names_three_other_people() -> None:
    task = open_data(Library().task("ioi_t1"))
    names = set(template_data("ioi_t1").lists["names"].words or ())
    pairs = task.pairs("test", 200, 0)
    tokens = task.tokenizer.tokens
    for clean, twin in zip(pairs.clean, pairs.corrupted, strict=True):
        people = [tokens[one] for one in clean if tokens[one] in names]
        others = [tokens[one] for one in twin if tokens[one] in names]
        assert len({*people, *others}) == 5
