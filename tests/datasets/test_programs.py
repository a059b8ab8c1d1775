"""Programs: what the interpreter computes, what is refused and where, and the prompts they give."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from harness.datasets.check import check_task
from harness.datasets.open import open_data
from harness.datasets.pairs import NO_TARGET
from harness.datasets.program import CARRIER, Domain
from harness.datasets.program.expression import parse_expression
from harness.datasets.program.read import read_program
from harness.datasets.program.run import run_program
from harness.datasets.program.spec import ProgramData, ProgramSelect, ProgramStep
from harness.datasets.program.task import checked_program
from harness.errors import HarnessError, SpecError
from harness.spec.load import Library

TASKS = ["reverse", "xproportion", "histogram", "sort", "most_frequent", "dyck_1", "copy_previous"]


# ---------------------------------------------------------------- behaviour, said once more
def shares(words):
    return [Fraction(words[: i + 1].count("x"), i + 1) for i in range(len(words))]


def dyck(words):
    states, depth, broken = [], 0, False
    for word in words:
        depth += 1 if word == "(" else -1
        broken |= depth < 0
        states.append("broken" if broken else "open" if depth else "balanced")
    return states


def most_frequent(words):
    counts = Counter(words)
    return [min(words, key=lambda word: (-counts[word], word))] * len(words)


def copied(words):
    answers = []
    for i, word in enumerate(words):
        before = [j for j in range(i) if words[j] == word]
        answers.append(words[before[-1] + 1] if before else None)
    return answers


BEHAVIOUR = {
    "reverse": lambda words: words[::-1],
    "xproportion": shares,
    "histogram": lambda words: [words.count(word) for word in words],
    "sort": sorted,
    "most_frequent": most_frequent,
    "dyck_1": dyck,
    "copy_previous": copied,
}


@pytest.mark.parametrize("name", TASKS)
def test_programs_compute_what_their_titles_say(name):
    program = checked_program(Library().task(name).spec.data)
    for length in (1, 2, 3, 5):
        for words in itertools.islice(itertools.product(program.vocabulary, repeat=length), 250):
            found = run_program(program, words)[program.output]
            assert found == list(BEHAVIOUR[name](list(words))), words


@pytest.mark.parametrize("name", TASKS)
def test_domains_hold_every_value_that_occurs(name):
    program = checked_program(Library().task(name).spec.data)
    rng = np.random.default_rng(0)
    for _ in range(100):
        words = rng.choice(program.vocabulary, size=rng.integers(1, program.longest + 1)).tolist()
        for step, row in run_program(program, words).items():
            values = program.domains[step].values
            assert {value for value in row if value is not None} <= set(values or row)


# ---------------------------------------------------------------- expressions
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a - b * 2", 1 - 6),
        ("b / 2", Fraction(3, 2)),
        ("b / 3", 1),
        ("0.1 + 0.2 == 0.3", 1),  # decimal numbers are exact
        ("b // 2 + b % 2", 2),
        ("-a", -1),
        ("1 < b <= 3", 1),
        ("a > 1 or b > 1 and not a == 1", 0),
        ("t in ('x', 'y')", 1),
        ("t + 'z'", "xz"),
        ("'yes' if t == 'x' else None", "yes"),
        ("None if t == 'x' else 1", None),
        ("(t, a == 1)", ("x", 1)),
        ("max(a, b) - min(a, b) + abs(-2) + int('7')", 11),
    ],
)
def test_expressions_mean_what_they_mean_in_python(text, value):
    found = parse_expression(text).evaluate({"a": 1, "b": 3, "t": "x"})
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a +", "no expression"),
        ("a.b", "Attribute is not understood"),
        ("a[0]", "Subscript is not understood"),
        ("[a for a in b]", "ListComp is not understood"),
        ("lambda: 1", "Lambda is not understood"),
        ("a ** 9", "Pow is not understood"),
        ("a << 9", "LShift is not understood"),
        ("eval('1')", "unknown function 'eval'"),
        ("mx(a, b)", "did you mean 'max'"),
        ("(max)(a)(b)", "only plain calls"),
        ("max(a, key=b)", "only plain calls"),
        ("f'{a}'", "JoinedStr is not understood"),
        ("b'x'", "no number and no text"),
        ("1j", "no number and no text"),
        ("(a := 1)", "NamedExpr is not understood"),
        ("*a", "no expression|not understood"),
        ("(" * 5000 + "a" + ")" * 5000, "no expression"),
    ],
)
def test_what_is_no_expression_is_refused_when_read(text, message):
    with pytest.raises(ValueError, match=message):
        parse_expression(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a / (b - 3)", "for a = 1, b = 3: division by zero"),
        ("a + 'x'", "no arithmetic with 1 and 'x'"),
        ("'x' * 1000000000", "no arithmetic"),
        ("(a, b) * 1000000000", "no arithmetic"),
        ("a < 'x'", "not supported between"),
        ("None + a", "no arithmetic"),
        ("int('x')", "invalid literal"),
        ("1e999", "Invalid literal"),
    ],
)
def test_what_has_no_value_says_for_which_input(text, message):
    with pytest.raises(ValueError, match=message):
        parse_expression(text).evaluate({"a": 1, "b": 3})


# ---------------------------------------------------------------- mistakes
def data_of(steps, output="out", **changes):
    data = ProgramData(vocabulary=("a", "b"), lengths=(2, 3), program=steps, output=output)
    return replace(data, **changes)


def select(keys="tokens", queries="tokens", predicate="==", which="all"):
    return ProgramStep(select=ProgramSelect(keys=keys, queries=queries, predicate=predicate,
                                            which=which))  # fmt: skip


OUT = ProgramStep(map="tokens == 'a'")


def problems_of(data):
    program, problems = read_program(data)
    assert (program is None) == bool(problems)
    return {".".join(map(str, place)): text for place, text in problems}


@pytest.mark.parametrize(
    ("steps", "place", "message"),
    [
        ({"x": ProgramStep(map="tokns")}, "program.x.map", "unknown step 'tokns'; did you mean"),
        ({"x": ProgramStep(map="1 +")}, "program.x.map", "no expression"),
        ({"x": ProgramStep(map="1")}, "program.x", "reads no other step"),
        ({"x": ProgramStep(map="indices / 0")}, "program.x", "division by zero"),
        ({"x": ProgramStep(map="s"), "s": select()}, "program.x.map", "'s' is a select"),
        ({"x": select(keys="nope")}, "program.x.select.keys", "unknown step 'nope'"),
        ({"x": select(queries="x")}, "program.x.select.queries", "'x' is a select"),
        ({"x": select(predicate="key == 1")}, "program.x.select.predicate", "unknown name 'key'"),
        ({"x": select(predicate="=>")}, "program.x.select.predicate", "no expression"),
        (
            {"s": select(predicate="<", queries="indices"), "x": ProgramStep(selector_width="s")},
            "program.x",
            "not supported between",
        ),
        ({"x": ProgramStep(selector_width="out")}, "program.x.selector_width", "is no select"),
        ({"x": ProgramStep(selector_width="s")}, "program.x.selector_width", "unknown select"),
        (
            {"s": select(which="latest"), "x": ProgramStep(selector_width="s")},
            "program.x.selector_width",
            "the latest",
        ),
        (
            {"s": select(), "x": ProgramStep(aggregate="s", of="s")},
            "program.x.of",
            "'s' is a select",
        ),
        (
            {"x": ProgramStep(map="y"), "y": ProgramStep(map="x")},
            "program.x",
            "circle: x -> y -> x",
        ),
        ({"keys": ProgramStep(map="tokens")}, "program.keys", "taken"),
        ({"if": ProgramStep(map="tokens")}, "program.if", "taken"),
        ({"x": ProgramStep(map="tokens", numerical=True)}, "program.x", "gives numbers, not 'a'"),
        (
            {"n": ProgramStep(map="indices", numerical=True), "x": ProgramStep(map="n + indices")},
            "program.x",
            "'n' is numerical and can only be mapped alone",
        ),
        (
            {
                "n": ProgramStep(map="indices", numerical=True),
                "s": select(keys="n"),
                "x": ProgramStep(selector_width="s"),
            },
            "program.x",
            "only categories can be keys",
        ),
        ({"x": ProgramStep(map="None if indices else None")}, "program.x", "never has a value"),
    ],
)
def test_mistakes_are_named_at_their_place(steps, place, message):
    found = problems_of(data_of({"out": OUT, **steps}))
    assert list(found) == [f"data.{place}"]
    assert message in found[f"data.{place}"]


def test_what_grows_too_large_is_refused():
    many = tuple(f"w{i}" for i in range(200))
    pair = {"out": ProgramStep(map="(tokens, indices)")}
    assert "more than 512 values" in problems_of(data_of(pair, vocabulary=many))["data.program.out"]
    triple = {
        "out": ProgramStep(map="(tokens, indices, code)"),
        "code": ProgramStep(map="tokens + 'x'"),
    }
    found = problems_of(data_of(triple, vocabulary=many))
    assert "more than 16384 combinations" in found["data.program.out"]
    mean = {
        "n": ProgramStep(map="1 / (1 + indices)", numerical=True),
        "s": select(),
        "m": ProgramStep(aggregate="s", of="n"),
        "out": ProgramStep(map="m > 1"),
    }
    found = problems_of(data_of(mean, lengths=(40,)))
    assert "'m' can have too many values" in found["data.program.out"]


def test_all_mistakes_are_reported_at_once():
    steps = {"out": OUT, "x": ProgramStep(map="1 +"), "y": select(keys="no", queries="nor")}
    found = problems_of(data_of(steps, output="outt", vocabulary=("a b", "<bos>")))
    assert set(found) == {
        "data.vocabulary.0",
        "data.vocabulary.1",
        "data.program.x.map",
        "data.program.y.select.keys",
        "data.program.y.select.queries",
        "data.output",
    }


def test_an_output_must_be_an_answer_and_vary():
    assert "tuple" in problems_of(data_of({"out": ProgramStep(map="(tokens, 1)")}))["data.output"]
    same = data_of({"out": ProgramStep(map="tokens == 'z'")})
    assert "always the same" in problems_of(same)["data.output"]
    assert "is a select" in problems_of(data_of({"out": select()}))["data.output"]


def test_different_categories_have_no_mean():
    data = data_of({"s": select(predicate="true"), "out": ProgramStep(aggregate="s", of="tokens")})
    program = checked_program(data)
    assert run_program(program, ["a", "a"])["out"] == ["a", "a"]
    with pytest.raises(HarnessError, match="step 'out' on 'a b': a category cannot be"):
        run_program(program, ["a", "b"])


def test_means_are_exact_and_known_beforehand():
    data = data_of(
        {
            "n": ProgramStep(map="1 if tokens == 'a' else 0", numerical=True),
            "s": select("indices", "indices", "<="),
            "out": ProgramStep(aggregate="s", of="n"),
        }
    )
    program = checked_program(data)
    third = Fraction(1, 3)
    assert program.domains["out"] == Domain((0, third, Fraction(1, 2), 2 * third, 1), True)
    assert run_program(program, ["a", "b", "b"])["out"] == [1, Fraction(1, 2), third]


# ---------------------------------------------------------------- in a task file
TASK = """spec_version: 1
name: mine
title: Mine
tokenizer: {kind: words, bos: true}
data:
  kind: program
  vocabulary: [a, b, c]
  lengths: [3, 4]
  program:
    same: {select: {keys: tokens, queries: tokens, predicate: "=="}}
    count: {selector_width: same}
  output: count
evaluation: {granularity: edge, component: heads_qkv_mlps, ablation: zero, positions: all,
             direction: noising, set: complement, discovery_pairs: 20, test_pairs: 4}
model: {kind: compile}
"""


def issues_of(tmp_path, *changes):
    text = TASK
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        return [str(issue).splitlines()[0] for issue in check_task(Library().task(str(path)))]
    except SpecError as error:
        return [str(issue).splitlines()[0] for issue in error.issues]


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        (("predicate: \"==\"", "predicate: =="), 10, ""),
        (("selector_width: same", "selector_width: sam"), 11, "did you mean 'same'?"),
        (("output: count", "output: cout"), 12, "did you mean 'count'?"),
        (("kind: words, bos: true", "kind: words"), 4, "needs `bos: true`"),
        (("kind: words, bos", "kind: characters, bos"), 4, "needs tokenizer kind 'words'"),
        (("selector_width: same", "selector_width: same, map: tokens"), 11, "exactly one of map"),
        (("selector_width: same", "selector_width: same, of: tokens"), 11, "needs 'aggregate'"),
        (("selector_width: same", "selector_width: same, numerical: true"), 11, "only a map can"),
        (("    count:", "    Count:"), 11, "lower-case"),
        (("lengths: [3, 4]", "lengths: [0, 4]"), 8, "at least 1"),
        (("vocabulary: [a, b, c]", "vocabulary: [a]"), 7, "at least 2 items"),
        (("test_pairs: 4", "test_pairs: 400"), 14, "has only"),
        (("output: count", "output: count\n  shares: {train: 0.5, validation: 0, test: 1}"), 13,
         "add up to 1.5"),
    ],
)  # fmt: skip
def test_mistakes_in_a_file_have_a_line(tmp_path, change, line, message):
    found = issues_of(tmp_path, change)
    if not message:
        assert found == []
        return
    assert any(f"mine.yaml:{line}:" in one and message in one for one in found), found


def test_only_a_program_can_be_compiled(tmp_path):
    generator = "data: {kind: generator, generator: brackets}\n"
    start, end = TASK.index("data:"), TASK.index("evaluation:")
    found = issues_of(tmp_path, (TASK[start:end], generator), ("kind: words", "kind: characters"))
    assert any("can only be compiled from data of kind 'program'" in one for one in found)


# ---------------------------------------------------------------- shipped tasks and their prompts
@pytest.mark.parametrize("name", TASKS)
def test_shipped_tasks_are_sound(name):
    loaded = Library().task(f"known/{name}")
    assert [str(issue) for issue in check_task(loaded)] == []
    assert loaded.source.text.startswith("# yaml-language-server: $schema=../../specs/task.schema")
    assert {"known", "program"} <= set(loaded.spec.tags)


@pytest.mark.parametrize("name", TASKS)
def test_pairs_are_answered_by_the_program(name):
    loaded = Library().task(name)
    data, program = open_data(loaded), checked_program(loaded.spec.data)
    seen = {}
    for split in data.splits:
        pairs = data.pairs(split, 40, 0, at_most=True)
        assert set(pairs.lengths) <= {length + 1 for length in loaded.spec.data.lengths}
        for index in range(len(pairs)):
            size = pairs.lengths[index]
            clean, twin = pairs.clean[index], pairs.corrupted[index]
            assert clean[0] == twin[0] == 0
            assert (clean[1:size] != twin[1:size]).all()
            assert not clean[size:].any()
            assert not twin[size:].any()
            assert seen.setdefault(tuple(clean[:size]), split) == split
            words, others = (
                [data.tokenizer.tokens[i] for i in row[1:size]] for row in (clean, twin)
            )
            right, wrong = BEHAVIOUR[name](words), BEHAVIOUR[name](others)
            check_answers(data, program, pairs.take([index]), list(right), list(wrong))


def check_answers(data, program, pair, right, wrong):
    """One pair: read exactly where there is an answer; good and bad as promised."""
    read = pair.positions[0]
    assert read[read >= 0].tolist() == [i + 1 for i, one in enumerate(right) if one is not None]
    for place, good, bad in zip(read, pair.good[0, :, 0], pair.bad[0, :, 0], strict=True):
        assert good != bad  # also where nothing is read: a mean over no answers is not a number
        assert min(good, bad) >= 0
        if place < 0:
            continue
        here, there = right[place - 1], wrong[place - 1]
        if program.numerical:
            assert (good, bad) == ((CARRIER, 0) if here >= there else (0, CARRIER))
            continue
        assert data.tokenizer.tokens[good] == str(here)
        if there is not None and there != here:
            assert data.tokenizer.tokens[bad] == str(there)
        else:
            assert data.tokenizer.tokens[bad] in {str(value) for value in program.answers}


def test_equal_arguments_give_equal_pairs_and_seeds_differ():
    data = open_data(Library().task("reverse"))
    again = open_data(Library().task("reverse"))
    assert data.pairs("test", 30, 0).digest() == again.pairs("test", 30, 0).digest()
    assert data.pairs("test", 30, 0).digest() != data.pairs("test", 30, 1).digest()


def test_numbers_join_the_vocabulary_after_the_tokens():
    data = open_data(Library().task("histogram"))
    assert data.tokenizer.tokens == ("<bos>", "a", "b", "c", "d", "0", "1", "2", "3", "4", "5")
    digits = replace(Library().task("histogram").spec.data, vocabulary=("1", "2"))
    program = checked_program(digits)
    assert program.tokens == ("1", "2", "0", "3", "4", "5")
    assert program.answer_ids[2] == 2  # the answer 2 is the token "2"


def test_training_batches_ask_for_the_answer_at_every_token():
    data = open_data(Library().task("copy_previous"))
    program = checked_program(Library().task("copy_previous").spec.data)
    batch = data.training_batch("answer", 32, 0, 0)
    for tokens, length, targets in zip(batch.tokens, batch.lengths, batch.targets, strict=True):
        words = [data.tokenizer.tokens[i] for i in tokens[1:length]]
        answers = run_program(program, words)[program.output]
        wanted = [NO_TARGET if one is None else program.answer_ids[one] for one in answers]
        assert targets[1:length].tolist() == wanted
        assert targets[0] == NO_TARGET
        assert (targets[length:] == NO_TARGET).all()
        assert any(one != NO_TARGET for one in wanted)
    following = data.training_batch("next_token", 32, 0, 0)
    np.testing.assert_array_equal(following.targets[:, 0], following.tokens[:, 1])
    with pytest.raises(HarnessError, match="numerical output has no answer tokens"):
        open_data(Library().task("xproportion")).training_batch("answer", 4, 0, 0)


def test_a_broken_program_cannot_be_opened():
    loaded = Library().task("reverse")
    broken = replace(loaded.spec.data, output="nope")
    with pytest.raises(HarnessError, match=r"data\.output: unknown step 'nope'"):
        open_data(replace(loaded, spec=replace(loaded.spec, data=broken)))
