"""The twenty questions about Python: aligned twins, held-out words, answers of the language."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from harness.datasets.corpus.idioms.document import document
from harness.datasets.corpus.idioms.pen import Pen
from harness.datasets.corpus.idioms.words import WORDS
from harness.datasets.generators.params import read_params
from harness.datasets.generators.python_code.cues import CUES
from harness.datasets.generators.python_code.source import PythonCodeParams
from harness.datasets.open import open_data
from harness.datasets.pairs import PromptPairs, TaskData
from harness.datasets.tokenizers.model import with_corpus_tokenizer
from harness.spec.load import Library
from harness.spec.shipped import shipped_root
from harness.spec.types import TrainModel

FOLDER = shipped_root() / "tasks" / "code"
N = 40


@cache
def opened(name: str) -> TaskData:
    loaded = Library().task(str(FOLDER / f"{name}.yaml"))
    assert isinstance(loaded.spec.model, TrainModel)
    return open_data(with_corpus_tokenizer(loaded, loaded.spec.model, loaded.folder))


@cache
def drawn(name: str, split: str) -> PromptPairs:
    return opened(name).pairs(split, N, 0)


def texts(name: str, pairs: PromptPairs) -> list[tuple[str, str, str, str]]:
    """Prompt, its twin, and the good and bad answer of each pair, without BOS."""
    decode = opened(name).tokenizer.decode
    return [
        (
            decode(pairs.clean[row, 1:length]),
            decode(pairs.corrupted[row, 1:length]),
            decode(pairs.good[row, 0]),
            decode(pairs.bad[row, 0]),
        )
        for row, length in enumerate(pairs.lengths.tolist())
    ]


def test_there_is_a_task_for_every_question() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*CUES}
    assert len(CUES) == 20


@pytest.mark.parametrize("name", CUES)
def test_twins_differ_in_the_cue_alone(name: str) -> None:
    pairs = drawn(name, "test")
    different = (pairs.clean != pairs.corrupted).sum(axis=1)
    assert (pairs.clean[:, 0] == opened(name).tokenizer.bos).all()
    three = name in ("if_ternary", "lambda_func")
    two = name in ("with_as", "indent_for", "enumerate_range", "var_if")
    assert (different == (3 if three else 2 if two else 1)).all()
    # Both answers are clean answers.
    assert len({*zip(pairs.good[:, 0, 0], pairs.bad[:, 0, 0], strict=True)}) >= 2


@pytest.mark.parametrize("name", CUES)
def test_words_of_test_prompts_are_held_out(name: str) -> None:
    words = {word for pool in WORDS.pools.values() for word in pool}

    def content(split: str) -> set[str]:
        every = " ".join(text for one in texts(name, drawn(name, split)) for text in one[:2])
        return {*re.findall(r"\w+", every)} & words

    fixed = {"current", "print"} if name == "set_or_string_fixedvarname" else {"print"}
    # `i`, `x` and so on may be part of code: no word of ours is one letter but counters.
    assert not (content("test") & content("train")) - fixed - {*WORDS.sources, *WORDS.targets}
    assert content("test")


ANY = {name: f"(?:{'|'.join(pool)})" for name, pool in WORDS.pools.items()}
EVERY_WORD = re.compile(rf"\b(?:{'|'.join(w for pool in WORDS.pools.values() for w in pool)})\b")
POOL_OF = {word: name for name, pool in WORDS.pools.items() for word in pool}


def pattern(text: str) -> str:
    """A regular expression for the text with any words of the same pools in their place."""
    parts, end = [], 0
    for match in EVERY_WORD.finditer(text):
        parts += [re.escape(text[end : match.start()]), ANY[POOL_OF[match[0]]]]
        end = match.end()
    return "".join([*parts, re.escape(text[end:])])


@cache
def language() -> str:
    return "".join(
        "\n" + "".join(one.text for one in document(Pen.seeded(4, seed))) for seed in range(1000)
    )


STATEFUL = {"set_or_string", "set_or_string_fixedvarname"}  # a line alone does not decide these
NAMED = {"class_init", "var_swap", "else_elif"}  # answers that are words of the prompt


@pytest.mark.parametrize("name", [name for name in CUES if name not in STATEFUL])
def test_the_language_goes_on_with_the_good_answer_and_never_with_the_bad(name: str) -> None:
    good_after = 0
    for prompt, _, good, bad in texts(name, drawn(name, "train"))[:6]:
        lines = prompt.splitlines(keepends=True)
        head = pattern(lines[-1])
        if name == "if_ternary" and lines[-1].startswith("    if"):
            head = pattern("".join(lines[-2:]))
        if name in NAMED:
            # The answer is the word of the prompt that the cue names.
            assert good.strip() in lines[-1] or good.strip() in "".join(lines[:-1])
        every = [match.end() for match in re.finditer(rf"\n{head}", language())]
        # No token joins a prompt with what comes next, so the first token there is the next one.
        tokenizer = opened(name).tokenizer
        after = {language()[end : language().index("\n", end) + 1] for end in every}
        tokens = [tokenizer.decode(tokenizer.encode(text)[:1]) for text in after]
        good_after += tokens.count(good)
        assert bad not in tokens or name in NAMED, prompt
    assert good_after or name in NAMED


@pytest.mark.parametrize("name", sorted(STATEFUL))
def test_a_set_is_added_to_and_a_string_is_continued(name: str) -> None:
    for prompt, _, good, bad in texts(name, drawn(name, "test")):
        variable = prompt.splitlines()[-1]
        last = [line for line in prompt.splitlines()[:-1] if line.startswith(f"{variable} = ")][-1]
        assert last.removeprefix(f"{variable} = ") == {".add": "set()", " +=": '""'}[good]
        assert {good, bad} == {".add", " +="}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_the_named_word_is_the_answer(name: str) -> None:
    for prompt, twin, good, bad in texts(name, drawn(name, "test")):
        last, other = prompt.splitlines()[-1], twin.splitlines()[-1]
        if name == "class_init":
            assert last == f"        self.{good.strip()} ="
            assert other == f"        self.{bad.strip()} ="
        elif name == "var_swap":
            assert last.startswith(f"{good.strip()}, ")
            assert other.startswith(f"{bad.strip()}, ")
        else:
            tested = next(t for t in prompt.splitlines()[::-1] if t.startswith("if ")).split()[1]
            assert {good, bad} == {":\n", f" {tested}"}
            assert (last == "else") == (good == ":\n")


def test_training_batches_are_prompts_of_the_task() -> None:
    data = opened("for_while")
    batch = data.training_batch("answer", 8, 0, 0)
    asked = batch.targets >= 0
    assert (asked.sum(axis=1) == 1).all()
    assert {data.tokenizer.decode([int(one)]) for one in batch.targets[asked]} == {" in", ":\n"}
    assert np.array_equal(
        batch.tokens, opened("for_while").training_batch("answer", 8, 0, 0).tokens
    )


# ---------------------------------------------------------------- code that the corpus has not
def probe(name: str, **params: object) -> TaskData:
    """A task with other parameters of its generator."""
    loaded = Library().task(str(FOLDER / f"{name}.yaml"))
    spec = loaded.spec
    data = replace(spec.data, params={**spec.data.params, **params})
    assert isinstance(spec.model, TrainModel)
    changed = replace(loaded, spec=replace(spec, data=data))
    return open_data(with_corpus_tokenizer(changed, spec.model, loaded.folder))


def prompts(data: TaskData) -> list[tuple[str, str]]:
    pairs = data.pairs("test", N, 0)
    decode = data.tokenizer.decode
    return [
        (decode(pairs.clean[row, 1:length]), decode(pairs.corrupted[row, 1:length]))
        for row, length in enumerate(pairs.lengths.tolist())
    ]


def test_lists_are_as_long_as_asked_for() -> None:
    for clean, corrupted in prompts(probe("bracket_counting", numbers=[7, 9])):
        for text in (clean, corrupted):
            last = text.splitlines()[-1]
            assert 7 <= len(re.findall(r"\d+", last)) <= 9
        assert {clean.splitlines()[-1].count("["), corrupted.splitlines()[-1].count("[")} == {1, 2}


@pytest.mark.parametrize(("comment", "ending"), [("bracket", r" \["), ("word", r" [a-z]+")])
def test_a_comment_stands_before_the_question(comment: str, ending: str) -> None:
    plain = prompts(opened("bracket_counting"))
    for one, other in zip(prompts(probe("bracket_counting", comment=comment)), plain, strict=True):
        lines = [text.splitlines()[-2] for text in one]
        assert lines[0] == lines[1]  # the same in both twins
        assert re.fullmatch(rf"#( [a-z]+){{1,3}}{ending}", lines[0])
        assert one != other


def test_probes_leave_the_tasks_what_they_were() -> None:
    """Their parameters are in no identity where they are left at their default."""
    spec = Library().task(str(FOLDER / "bracket_counting.yaml")).spec
    assert spec.data.params == {"cue": "bracket_counting", "statements": [0, 3], "longest": 96}


@pytest.mark.parametrize(
    ("cue", "params", "message"),
    [
        ("bracket_counting", {"numbers": [3, 2]}, "fewest and most, in order"),
        ("for_while", {"numbers": [3, 3]}, "'for_while' has no list"),
    ],
)
def test_impossible_probes_are_refused(cue: str, params: dict[str, object], message: str) -> None:
    _, problems = read_params(PythonCodeParams, {"cue": cue, **params})
    assert [name for name, _ in problems] == ["numbers"]
    assert message in problems[0][1]
