"""`check_task`: every mistake that needs no training, at its line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.datasets.check import check_task, needed_files
from harness.datasets.open import content_digests, referred_files
from harness.errors import HarnessError
from harness.spec.issues import Issue
from harness.spec.load import Library

TAIL = """
evaluation: {granularity: edge, component: heads_qkv_mlps, ablation: interchange, positions: all,
  direction: noising, set: complement, discovery_pairs: 4, test_pairs: 4}
model:
  kind: train
  architecture: {n_layers: 1, n_heads: 1, d_model: 8}
  training: {objective: answer, steps: 1}
"""

TEMPLATE = (
    """spec_version: 1
name: toy
title: Toy
tokenizer: {kind: words}
data:
  kind: template
  templates:
    - text: "{X} met {Y} . {S2} smiled at"
    - text: "then {X} saw {Y} and {S2} smiled at"
  aliases:
    - {X: IO, Y: S}
    - {X: S, Y: IO}
  slots:
    IO: names
    S: names
    S2: S
    C: names
  lists:
    names: {words: [Ann, Bob, Cy, Dan, Eve, Flo, Gus, Hal]}
  constraints:
    - distinct(IO, S, C)
  good: {slot: IO}
  bad: {slot: S}
  corruptions:
    abc: {S2: C}
  corruption: abc
"""
    + TAIL
)

GENERATOR = (
    """spec_version: 1
name: toy
title: Toy
tokenizer: {kind: characters}
data:
  kind: generator
  generator: brackets
  params:
    lengths: [15, 20]
    max_depth: 4
"""
    + TAIL
)

FILE = (
    """spec_version: 1
name: toy
title: Toy
tokenizer: {kind: words}
data:
  kind: file
  path: rows.jsonl
  columns: {good: answer, bad: wrong}
"""
    + TAIL
)


def check(folder: Path, text: str) -> list[Issue]:
    path = folder / "toy.yaml"
    path.write_text(text, encoding="utf-8")
    return check_task(Library().task(str(path)))


def write_rows(folder: Path, n: int = 100) -> None:
    data = [
        {"clean": f"n {i}", "corrupted": f"n {i + 1}", "answer": "a", "wrong": "b"}
        for i in range(n)
    ]
    (folder / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in data))


def test_sound_tasks_have_no_issues(tmp_path: Path) -> None:
    write_rows(tmp_path)
    for text in (TEMPLATE, GENERATOR, FILE):
        assert check(tmp_path, text) == []


# (what to replace, by what, the line of the issue counted in the changed file, the message)
TEMPLATE_MISTAKES = [
    ("{X} met {Y}", "{X} met {Z}", 8, "unknown slot 'Z'"),
    ("{X} met {Y} .", "{X} met {Y} {", 8, "a brace that is not part of a {SLOT}"),
    ("then {X} saw {Y} and {S2} smiled at", "{X} met {Y} . {S2} smiled at", 9,
     "same as templates[0]"),
    ("and {S2} smiled", "and smiled", 9, "corruption 'abc' changes nothing here"),
    ("- {X: S, Y: IO}", "- {X: S, Y: OI}", 12, "unknown slot 'OI'; known: IO, S"),
    ("- {X: S, Y: IO}", "- {X: S}", 12, "must name the same placeholders"),
    ("- {X: IO, Y: S}\n    - {X: S, Y: IO}", "- {X: IO, Y: S, C: S}", 11, "'C' is already a slot"),
    ("S2: S\n", "S2: T\n", 16, "unknown list or earlier slot 'T'"),
    ("    C: names\n", "    C: names\n    D: names\n", 18, "slot 'D' is never used"),
    ("C: names\n", "C: namse\n", 17, "did you mean 'names'?"),
    ("[Ann, Bob,", "[Ann, Mary Jane,", 19, "'Mary Jane' must be one token but is 2"),
    ("{words: [Ann, Bob, Cy, Dan, Eve, Flo, Gus, Hal]}", "{file: none.txt}", 19,
     "word file none.txt: No such file"),
    ("{words: [Ann, Bob, Cy, Dan, Eve, Flo, Gus, Hal]}", "{range: [9, 3]}", 19,
     "must be in order"),
    ("distinct(IO, S, C)", "distinct(IO, Q)", 21, "unknown slot 'Q'"),
    ("distinct(IO, S, C)", "IO = S", 21, "is not understood"),
    ("distinct(IO, S, C)", "S != S2", 21, "are always equal"),
    ("distinct(IO, S, C)", "IO != S", 25, "random pairs are not changed at all"),
    ("distinct(IO, S, C)", "distinct(S, C)", 23, "an answer is both good and bad"),
    ("good: {slot: IO}", "good: {slot: S3}", 22, "did you mean 'S'?"),
    ("good: {slot: IO}", "good: {list: name}", 22, "did you mean 'names'?"),
    ("good: {slot: IO}", "good: {word: ice cream}", 22, "must be one token but is 2"),
    ("abc: {S2: C}", "abc: {S3: C}", 25, "unknown slot 'S3'; did you mean 'S'?"),
    ("abc: {S2: C}", "abc: {S2: D}", 25, "unknown slot 'D'"),
    ("abc: {S2: C}", 'abc: {S2: "=a b"}', 25, "'a b' must be one token but is 2"),
    ("abc: {S2: C}", "abc: {S2: S}\n    d: {S2: C}", 25, "this changes nothing"),
    ("corruption: abc", "corruption: abd", 26, "unknown corruption 'abd'; did you mean 'abc'?"),
    ("corruption: abc", "corruption: abc\n  held_out: {new: {nams: [Ann]}}", 27,
     "unknown list 'nams'"),
    ("corruption: abc", "corruption: abc\n  held_out: {new: {names: [Zoe]}}", 27,
     "not in list 'names': Zoe"),
    ("corruption: abc", "corruption: abc\n  shares: {train: 0.5, validation: 0.1, test: 0.1}", 27,
     "add up to 0.7"),
    ("corruption: abc", "corruption: abc\n  shares: {train: 0.9, validation: 0.1, test: 0.0}", 27,
     "split 'test' has only 0 distinct prompts"),
    ("test_pairs: 4", "test_pairs: 5000", 29, "5000 were asked for"),
    ("kind: words", "kind: moves", 4, "only for the othello generator"),
    ("distinct(IO, S, C)", "whole_tokens(IO, S3)", 21, "unknown slot 'S3'; did you mean 'S'?"),
    ("distinct(IO, S, C)", "one_token(name)", 21, "unknown list 'name'; did you mean 'names'?"),
    ("{X} met {Y} .", "{X} met {} {Y} .", 8, "({}, the answer, ends a template)"),
    ("saw {Y} and {S2} smiled at", "saw {Y} and {S2} smiled at {S}{}{}", 9, "({}, the answer"),
    ("{X} met {Y} . {S2} smiled at", "{}", 8, "the text is empty"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "line", "message"), TEMPLATE_MISTAKES, ids=[one[3] for one in TEMPLATE_MISTAKES]
)
def test_template_mistakes(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert old in TEMPLATE
    issues = check(tmp_path, TEMPLATE.replace(old, new))
    assert any(issue.line == line and message in issue.message for issue in issues), (
        "\n".join(str(issue) for issue in issues) or "no issue"
    )


# ------------------------------------------------------------------ files that are not there
BROUGHT = "kind: file, path: models/m/tokenizer.json"
LOADED = "kind: load\n  path: "


def loads(text: str, path: str) -> str:
    """The task with its own tokenizer file and a model that is loaded."""
    head, _, _ = text.replace("kind: words", BROUGHT).partition("  kind: train")
    return f"{head}  {LOADED}{path}\n"


@pytest.mark.parametrize("text", [TEMPLATE, FILE], ids=["template", "file"])
def test_a_tokenizer_to_be_brought_is_no_mistake(tmp_path: Path, text: str) -> None:
    write_rows(tmp_path)
    path = tmp_path / "toy.yaml"
    assert check(tmp_path, loads(text, "models/m")) == []
    (message,) = needed_files(Library().task(str(path)))  # the model's folder is the same
    assert message.startswith("needs models/m/tokenizer.json, which is not below ")
    assert str(tmp_path) in message
    path.write_text(loads(text, "other/model"), encoding="utf-8")
    both = needed_files(Library().task(str(path)))
    assert [one.split(",")[0] for one in both] == [
        "needs models/m/tokenizer.json",
        "needs other/model",
    ]
    (tmp_path / "models" / "m").mkdir(parents=True)
    (tmp_path / "models" / "m" / "tokenizer.json").write_text("{}", encoding="utf-8")
    (tmp_path / "other" / "model").mkdir(parents=True)
    assert needed_files(Library().task(str(path))) == []
    assert any(
        "not a tokenizer.json" in issue.message for issue in check(tmp_path, loads(text, "."))
    )


def test_tasks_that_ship_everything_need_nothing(tmp_path: Path) -> None:
    for text in (TEMPLATE, GENERATOR):
        check(tmp_path, text)
        assert needed_files(Library().task(str(tmp_path / "toy.yaml"))) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("{X} met {Y}", "{X} met {Z}", 8, "unknown slot 'Z'"),
        ("distinct(IO, S, C)", "one_token(name)", 21, "unknown list 'name'"),
        ("{words: [Ann, Bob, Cy, Dan, Eve, Flo, Gus, Hal]}", "{file: none.txt}", 19,
         "word file none.txt: No such file"),
    ],
)  # fmt: skip
def test_what_needs_no_tokens_is_checked_without_them(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    text = loads(TEMPLATE, "models/m").replace(old, new)
    (issue,) = check(tmp_path, text)
    assert (issue.line, message in issue.message) == (line, True)


def test_a_generator_without_its_tokenizer_file(tmp_path: Path) -> None:
    text = loads(GENERATOR.replace("characters", "words"), "models/m")
    text = text.replace("brackets", "boolean_expressions").replace(
        "lengths: [15, 20]", "leaves: [4, 2]"
    )
    text = text.replace("max_depth: 4", "depth: 3")
    (issue,) = check(tmp_path, text)
    assert (issue.line, "fewest and most" in issue.message) == (9, True)
    assert check(tmp_path, text.replace("[4, 2]", "[2, 4]")) == []


GENERATOR_MISTAKES = [
    ("generator: brackets", "generator: bracket", 7, "did you mean 'brackets'?"),
    ("max_depth: 4", "max_depth: 1", 9, "no prompt of 20 brackets"),
    ("kind: characters", "kind: words", 4, "needs tokenizer kind 'characters', not 'words'"),
    ("[15, 20]", "[3]", 13, "4 were asked for"),
]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    GENERATOR_MISTAKES,
    ids=[one[3] for one in GENERATOR_MISTAKES],
)
def test_generator_mistakes(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    issues = check(tmp_path, GENERATOR.replace(old, new))
    assert any(issue.line == line and message in issue.message for issue in issues), (
        "\n".join(str(issue) for issue in issues) or "no issue"
    )


def test_a_task_whose_model_is_trained_on_another(tmp_path: Path) -> None:
    taught = GENERATOR.replace("name: toy", "name: taught")
    (tmp_path / "taught.yaml").write_text(taught, encoding="utf-8")
    text = GENERATOR.replace("kind: train", "kind: train\n  task: ./taught.yaml")
    assert check(tmp_path, text) == []
    (issue,) = check(tmp_path, text.replace("[15, 20]", "[15, 30]"))
    assert (issue.line, issue.where) == (16, "model.task")
    assert "a model of task 'taught' cannot do this one: its prompts have" in issue.message
    (issue,) = check(
        tmp_path, text.replace("max_depth: 4", "max_depth: 4\n    kinds: ['()', '<>']")
    )
    assert "their tokens are not the same" in issue.message


def test_file_mistakes(tmp_path: Path) -> None:
    (issue,) = check(tmp_path, FILE)
    assert (issue.line, "no such file" in issue.message) == (7, True)
    (tmp_path / "rows.jsonl").write_text('{"clean": "a"}\n')
    (issue,) = check(tmp_path, FILE)
    assert (issue.line, "rows.jsonl:1: no column 'corrupted'" in issue.message) == (7, True)
    write_rows(tmp_path, 2)
    assert any("distinct prompts" in issue.message for issue in check(tmp_path, FILE))


def test_digests_of_files(tmp_path: Path) -> None:
    write_rows(tmp_path)
    path = tmp_path / "toy.yaml"
    path.write_text(FILE, encoding="utf-8")
    loaded = Library().task(str(path))
    first = content_digests(loaded)
    assert list(first) == ["rows.jsonl"] == referred_files(loaded.spec)
    write_rows(tmp_path, 99)
    assert content_digests(loaded) != first
    (tmp_path / "rows.jsonl").unlink()
    with pytest.raises(HarnessError, match=r"rows\.jsonl: No such file"):
        content_digests(loaded)


def test_checking_needs_neither_torch_nor_polars() -> None:
    code = (
        "import sys; from harness.datasets.check import check_task; "
        "from harness.spec.load import Library; assert check_task(Library().task('ioi')) == []; "
        "bad = {'torch', 'polars', 'tokenizers'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
