"""The law of answers: tokens(prompt + answer) = tokens(prompt) + [answer], wherever it is used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from datasets.test_template_tokens import add_merges, byte_level
from hypothesis import given
from hypothesis import strategies as st
from support.random_tokenizers import LETTERS, MODELS, plain, random_document
from tokenizers import Tokenizer as Foreign

from harness.cli.check import issues_of
from harness.datasets.files import open_file, pairs_of_rows
from harness.datasets.files.spec import Columns, FileData
from harness.datasets.pairs import PromptPairs, TaskData
from harness.datasets.tokenizers import Asked, FileTokenizer, Vocabulary
from harness.datasets.tokenizers.continuation import breaks
from harness.errors import HarnessError
from harness.spec.load import Library
from harness.spec.types import TokenizerSpec


# ------------------------------------------------------------------ the law
def law(foreign: Any, prompt: str, answer: str) -> int | None:
    """The answer's token by the definition, with the library alone; None if there is none."""
    alone = foreign.encode(prompt, add_special_tokens=False).ids
    both = foreign.encode(prompt + answer, add_special_tokens=False).ids
    return int(both[-1]) if both[:-1] == alone and len(both) == len(alone) + 1 else None


def rows_over(tokenizer: FileTokenizer, row: dict[str, Any]) -> PromptPairs:
    """A row of one's own as a pair, in a task over this tokenizer."""
    return pairs_of_rows([row], cast("TaskData", SimpleNamespace(tokenizer=tokenizer)))


def random_text(rng: Random, longest: int) -> str:
    return "".join(rng.choice(LETTERS + " ") for _ in range(rng.randint(1, longest)))


@pytest.mark.parametrize("kind", MODELS)
def test_the_law_holds_for_every_accepted_pair(kind: str, tmp_path: Path) -> None:
    """And what is advised is accepted; a twin is the prompt with another first letter."""
    rng, path, seen = Random(kind), tmp_path / "tokenizer.json", Counter[str]()
    for _ in range(60):
        document = random_document(kind, rng)
        path.write_text(json.dumps(document), encoding="utf-8")
        foreign, tokenizer = Foreign.from_str(plain(document)), FileTokenizer(path, bos="<s>")
        for _ in range(12):
            prompt, answer = "b " + random_text(rng, 8), random_text(rng, 3)
            broken = next(breaks(tokenizer, [Asked(prompt, answer, joined=True)]), None)
            if broken is None:
                assert law(foreign, prompt, answer) == tokenizer.single(answer)
            elif broken.better is not None:
                assert law(foreign, *broken.better) is not None
            seen["refused" if broken else "accepted"] += 1
            seen["advised"] += broken is not None and broken.better is not None
            row = {"clean": prompt, "corrupted": f"a{prompt[1:]}", "good": answer, "bad": "1"}
            try:
                pairs = rows_over(tokenizer, row)
            except HarnessError:
                continue
            seen["used"] += 1
            ids = [tokenizer.bos, *foreign.encode(prompt, add_special_tokens=False).ids]
            assert pairs.clean[0].tolist() == ids
            for text, good in ((answer, pairs.good), ("1", pairs.bad)):
                assert law(foreign, prompt, text) == good[0, 0, 0]
                assert law(foreign, row["corrupted"], text) == good[0, 0, 0]
    assert min(seen[name] for name in ("refused", "accepted", "advised", "used")) >= 5, seen


@given(st.text(min_size=1), st.text(min_size=1), st.booleans())
def test_built_vocabularies_keep_the_law(prompt: str, answer: str, bos: bool) -> None:
    """An answer is a token there, so it always is the next one (words: after a space)."""
    for make, space in ((Vocabulary.of_words, " "), (Vocabulary.of_characters, "")):
        vocabulary = make([prompt, answer], bos)
        try:
            token = vocabulary.single(answer)
        except HarnessError:
            continue
        assert vocabulary.encode(prompt + space + answer) == [*vocabulary.encode(prompt), token]
        assert not list(breaks(vocabulary, [Asked(prompt, answer)]))


# ------------------------------------------------------------------ cases
@pytest.fixture
def gpt2_like(tmp_path: Path) -> Path:
    """Words are one token after a space; " 17" and "33" too, but 1945 is one token."""
    path = tmp_path / "tokenizer.json"
    byte_level(path, ["gave", "drink", "to", "Mary", "17", "19", "is", "Paris"])
    add_merges(path, ["3 3", "4 5"], ["Ġ19 45", "M a", "r y", "Ma ry"])
    return path


@pytest.mark.parametrize(
    ("prompt", "answer", "reason", "advice"),
    [
        ("gave drink to ", "Mary", "end in 'ĠMary', not in 'Ġ' 'Mary'",
         "write 'gave drink to' and ' Mary'"),
        ("gave drink to", "Mary", "the two make one word", "' Mary' is one token: put a space"),
        ("gave drink t", "o", "end in 'Ġto', not in 'Ġt' 'o'", "write 'gave drink' and ' to'"),
        ("gave drink to ", " Mary", "that would be two spaces", "write 'gave drink to' and ' Mary"),
        ("from 19", "45", "end in 'Ġ1945', not in 'Ġ19' '45'", "write 'from' and ' 1945'"),
        ("drink is", "Paris", "'Paris' must be exactly one token but is 5",
         "' Paris' is one token: put a space before"),
        ("gave drink to", " Xyz", "' Xyz' must be exactly one token but is 4",
         "no other spelling of it is one token there"),
    ],
)  # fmt: skip
def test_a_wrong_spelling_is_refused_with_the_right_one(
    gpt2_like: Path, prompt: str, answer: str, reason: str, advice: str
) -> None:
    tokenizer = FileTokenizer(gpt2_like, bos=False)
    (broken,) = breaks(tokenizer, [Asked(prompt, answer)])
    assert reason in str(broken)
    assert advice in str(broken)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [("gave drink to", " Mary"), ("from 17", "33"), ("gave (", "Mary"), ("x 5", "4"), ("七", "M")],
)
def test_a_right_spelling_is_taken(gpt2_like: Path, prompt: str, answer: str) -> None:
    tokenizer = FileTokenizer(gpt2_like, bos=False)
    assert not list(breaks(tokenizer, [Asked(prompt, answer)]))


def test_years_in_threes(tmp_path: Path) -> None:
    """As Llama 3 splits digits: 1733 is 173 and 3, so 17 is not followed by 33."""
    path = tmp_path / "tokenizer.json"
    numbers = [str(number) for number in range(1000)]
    vocabulary = {name: at for at, name in enumerate(["<unk>", " ", "\n", "to", *numbers])}
    pieces = {"type": "Split", "pattern": {"Regex": r"[0-9]{1,3}|\s|\w+"}, "behavior": "Isolated",
              "invert": False}  # fmt: skip
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"}
    document = {"version": "1.0", "added_tokens": [], "pre_tokenizer": pieces, "model": model}
    path.write_text(json.dumps(document))
    tokenizer = FileTokenizer(path, bos=False)
    (broken,) = breaks(tokenizer, [Asked("1705 to 17", "33")])
    assert "end in '173' '3', not in '17' '33'; write '1705 to 173' and '3'" in str(broken)
    assert not list(breaks(tokenizer, [Asked("1705 to ", "37")]))  # a space is a token apart


def test_words_that_ignore_spaces_may_have_one_at_the_end(tmp_path: Path) -> None:
    document = random_document("words", Random(0))
    document["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    tokenizer = FileTokenizer(path, bos=False)
    assert not list(breaks(tokenizer, [Asked("a t ", " b"), Asked("a t ", "b"), Asked("a", " b")]))


def test_cases_with_gpt2(reference_file: Callable[[str], Path]) -> None:
    tokenizer = FileTokenizer(reference_file("gpt2_tokenizer/tokenizer.json"), bos=False)
    wrong = [("Bob gave a drink to ", "Mary"), ("Bob gave a drink to", "Mary"),
             ("Bob gave a drink t", "o"), ("It lasted from 1932 to 19", "45"),
             ("The capital of France is", "Paris"), ("to ", " Mary")]  # fmt: skip
    broken = list(breaks(tokenizer, [Asked(*one) for one in wrong]))
    assert [one.asked[:2] for one in broken] == wrong
    assert [one.better and one.better[1] for one in broken] == [
        " Mary", " Mary", " to", " 1945", " Paris", " Mary",
    ]  # fmt: skip
    right = [("Bob gave a drink to", " Mary"), ("It lasted from 1732 to 17", "33"), ("'", "True")]
    assert not list(breaks(tokenizer, [Asked(*one) for one in right]))


# ------------------------------------------------------------------ doors
def rows_of(path: Path, n: int, space: str) -> None:
    """Marked answers after `is`, with or without the space that they need."""
    lines = [
        {
            "clean": f"x{number:03d} is{space}<predict>Paris</predict>",
            "corrupted": f"y{number:03d} is{space}<predict>Mary</predict>",
        }
        for number in range(n)
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def test_a_file_of_wrong_answers_is_one_error(gpt2_like: Path, tmp_path: Path) -> None:
    rows_of(tmp_path / "d.jsonl", 60, "")
    spec = TokenizerSpec(kind="file", path=gpt2_like.name)
    with pytest.raises(HarnessError) as error:
        open_file(FileData(path="d.jsonl"), spec, tmp_path)
    (line,) = str(error.value).splitlines()
    assert line.startswith("d.jsonl:1: 'Paris' must be exactly one token but is 5")
    assert "; ' Paris' is one token: put a space before, as in 'x000 is <predict>Paris<" in line
    assert line.endswith(" (and 59 other rows)")
    rows_of(tmp_path / "d.jsonl", 60, " ")
    shares = {"train": 0.5, "validation": 0.0, "test": 0.5}
    task = open_file(FileData(path="d.jsonl", shares=shares), spec, tmp_path)
    pairs = task.pairs("test", 10, 0)
    assert {task.tokenizer.decode([one]) for one in pairs.good[:, 0, 0]} == {" Paris"}


def test_every_row_is_looked_at(gpt2_like: Path, tmp_path: Path) -> None:
    row = {"clean": "a to", "corrupted": "b to", "good": " Mary", "bad": " Paris"}
    lines = [row, {**row, "clean": "c t", "corrupted": "d t", "good": "o"}, row]
    lines.append({**row, "good": [" Mary", " Xyz"]})
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, lines)))
    spec = TokenizerSpec(kind="file", path=gpt2_like.name)
    data = FileData(path="d.jsonl", columns=Columns(good="good", bad="bad"))
    with pytest.raises(HarnessError) as error:
        open_file(data, spec, tmp_path)
    first, second = str(error.value).splitlines()
    assert first.startswith("d.jsonl:2: the answer 'o' is not how 'c t' goes on")
    assert second.startswith("d.jsonl:4: ' Xyz' must be exactly one token")


def test_rows_from_python_are_looked_at(gpt2_like: Path) -> None:
    row = {"clean": "a t", "corrupted": "b t", "good": "o", "bad": " Mary"}
    with pytest.raises(HarnessError, match="row 0: the answer 'o' is not how 'a t' goes on"):
        rows_over(FileTokenizer(gpt2_like, bos=False), row)
    taken = rows_over(FileTokenizer(gpt2_like, bos=False, continues=False), row)
    assert len(taken) == 1


TASK = """spec_version: 1
name: toy
title: Toy
tokenizer: {kind: file, path: tokenizer.json}
data:
  kind: template
  templates:
    - "{X} gave drink to"
    - "TEXT"
  slots: {X: names}
  lists: {names: [a, b, c, d, e, f, g, h, i, j]}
  good: {word: GOOD}
  bad: {word: BAD}
  corruptions: {change: {X: "=z"}}
  corruption: change
  shares: {train: 0.4, validation: 0.2, test: 0.4}
evaluation: {ablation: interchange, positions: all, discovery_pairs: 2, test_pairs: 2}
model: {kind: load, path: model}
"""


def write_task(folder: Path, text: str, good: str = "Mary", bad: str = "Paris") -> Path:
    path = folder / "toy.yaml"
    words = TASK.replace("GOOD", good).replace("BAD", bad)
    path.write_text(words.replace("TEXT", text), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "{X} is to ",
            "is to' and ' Mary': leave out the space at the end of the template",
        ),
        ("{X} is Ġ", None),
        ("{X} is to", None),
        ("{X} is to {}", None),
        ("{X}{}", None),
    ],
)
def test_templates_are_refused_by_place(
    gpt2_like: Path, tmp_path: Path, text: str, said: str | None
) -> None:
    path = write_task(tmp_path, text)
    issues = issues_of(Library(), path)
    if said is None:
        assert not [one for one in issues if one.where == "data.templates.1"]
    else:
        (issue,) = issues
        assert (issue.where, issue.line) == ("data.templates.1", 9)
        assert said in issue.message


def test_an_answer_that_joins_a_template_is_refused_by_place(
    gpt2_like: Path, tmp_path: Path
) -> None:
    """`drink t{}` asks for "o"; with `continues: false` it may, and the tokens are the same."""
    path = write_task(tmp_path, "{X} drink t{}", good="o", bad="i")
    text = path.read_text().replace('    - "{X} gave drink to"\n', "")
    path.write_text(text)
    (issue,) = issues_of(Library(), path)
    assert issue.where == "data.templates.0"
    assert "the answer 'o' is not how " in issue.message
    assert issue.message.endswith("drink' and ' to'")
    path.write_text(text.replace("  kind: template\n", "  kind: template\n  continues: false\n"))
    assert issues_of(Library(), path) == []


def test_words_that_cannot_answer_are_named_once(gpt2_like: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path, "{X} is to")
    text = path.read_text().replace("{word: Mary}", "{list: names}")
    path.write_text(text)
    issues = issues_of(Library(), path)
    assert {one.where for one in issues} == {"data.good"}
    good = [one.message for one in issues if one.where == "data.good"]
    assert len(good) == 4
    assert "'a' is one token: end the template in {} right after the text" in good[0]
    assert good[-1] == "4 more words cannot answer; the constraint one_token leaves them out"


# ------------------------------------------------------------------ answers read elsewhere
@pytest.mark.parametrize(
    ("position", "taken"), [(-1, False), (1, True), (2, False), (-2, True), ([1, 2], False)]
)
def test_only_what_is_read_at_the_end_has_to_go_on(
    gpt2_like: Path, position: int | list[int], taken: bool
) -> None:
    """The prompt "a t" has three tokens; "o" would join the last one."""
    several = isinstance(position, list)
    good, bad = (["o", "o"], ["i", "i"]) if several else ("o", "i")
    row = {"clean": "a t", "corrupted": "b t", "good": good, "bad": bad, "position": position}
    tokenizer = FileTokenizer(gpt2_like, bos="!")
    assert len(tokenizer.prompt("a t")) == 3
    if taken:
        assert len(rows_over(tokenizer, row)) == 1
        return
    with pytest.raises(HarnessError, match="row 0: the answer 'o' is not how 'a t' goes on"):
        rows_over(tokenizer, row)


@pytest.mark.parametrize(("read", "taken"), [("last", False), ("first", True), ("X", True)])
def test_templates_too(gpt2_like: Path, tmp_path: Path, read: str, taken: bool) -> None:
    path = write_task(tmp_path, "{X} drink t{}", good="o", bad="i")
    text = path.read_text().replace('    - "{X} gave drink to"\n', "")
    path.write_text(text.replace("  kind: template\n", f"  kind: template\n  read: {read}\n"))
    refused = [one.message for one in issues_of(Library(), path)]
    assert (refused == []) == taken
    assert all("is not how" in message for message in refused)
