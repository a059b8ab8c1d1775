"""Specs that ask for far too much: validation says so in seconds, whatever a megabyte can say."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.mutate import within_seconds

from harness.cli.check import issues_of
from harness.datasets import check
from harness.datasets.template import frames, read, word_lists
from harness.datasets.template.answers import outside_list
from harness.datasets.template.read import read_plan
from harness.spec.build import build_data
from harness.spec.key import _LIMITS
from harness.spec.load import Library
from harness.spec.schema.messages import _limit_words
from harness.spec.yaml.source import read_source

ROOT = Path(__file__).parents[2]
TASK = read_source(ROOT / "tasks/greater_than.yaml").data
SUITE = read_source(ROOT / "specs/suites/quickstart.yaml").data

Change = Callable[[dict[str, Any]], object]


def many(n: int, value: Any = "years") -> dict[str, Any]:
    return {f"S{number}": value for number in range(n)}


def messages(folder: Path, data: dict[str, Any], kind: Any = "task") -> list[str]:
    path = folder / "large.yaml"
    path.write_text(json.dumps({**data, "name": "large"}))
    assert path.stat().st_size <= 1 << 20
    with within_seconds(5):
        return [f"{one.where}: {one.message}" for one in issues_of(Library(), path, kind)]


def task(change: Change) -> dict[str, Any]:
    data: dict[str, Any] = copy.deepcopy(TASK)
    data["evaluation"] |= {"discovery_pairs": 8, "test_pairs": 8}
    change(data["data"])
    return data


TEXT = "The {NOUN} went on from {CC} {YY} to {CC}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d.update(templates=["".join(f"{{Q{n}}}" for n in range(20_000))]),
            "data.templates.0: must have at most 4000 characters",
        ),
        (lambda d: d["slots"].update(many(1_000)), "data.slots: takes at most 64 keys"),
        (
            lambda d: d["lists"].update(many(65, {"range": [0, 99_999]})),
            "data.lists: takes at most 64 keys",
        ),
        (
            lambda d: d["corruptions"].update(x=many(1_000, "=01")),
            "data.corruptions.x: takes at most 64 keys",
        ),
        (
            lambda d: d.update(templates=[f"{n} {TEXT}" for n in range(2_001)]),
            "data.templates: takes at most 2000 items",
        ),
        (
            lambda d: d.update(aliases=[{"X": "NOUN"}] * 65),
            "data.aliases: takes at most 64 items",
        ),
        (
            lambda d: d.update(constraints=[f"A{n} != B{n}" for n in range(2_001)]),
            "data.constraints: takes at most 200 items",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_forms_have_limits(tmp_path: Path, change: Change, message: str) -> None:
    assert message in messages(tmp_path, task(change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (  # 13,500 names, none of which is a slot
            lambda d: d.update(
                templates=["".join(f"{{Q{n}_{m}}}" for n in range(450)) for m in range(30)]
            ),
            "data.templates.0: unknown slot 'Q0_0'; known: NOUN, CC, YY",
        ),
        (
            lambda d: d.update(
                templates=[f"{n} {'w ' * 300}{TEXT}" for n in range(200)],
                aliases=[{f"X{n}": "NOUN"} for n in range(64)],
            ),
            "data.templates: 200 templates of up to 645 characters, under each map of aliases (64)",
        ),
        (
            lambda d: d["lists"].update(many(60, {"range": [0, 99_999]})),
            "data.lists.S2: up to here the lists have more than 300,000 words together",
        ),
        (
            lambda d: d.update(
                slots={**d["slots"], **many(61)},
                constraints=[
                    f"distinct({', '.join(f'S{n}' for n in range(k, 61))})" for k in range(5)
                ],
            ),
            "data.constraints.2: up to here there are more than 5,000 relations",
        ),
    ],
    ids=["slots", "aliases", "words", "relations"],
)
def test_work_within_the_forms_is_bounded(tmp_path: Path, change: Change, message: str) -> None:
    found = messages(tmp_path, task(change))
    assert any(one.startswith(message) for one in found), found[:5]


def test_long_lists_are_checked_in_linear_time(tmp_path: Path) -> None:
    """Words were looked up in one list after another: 30 s for 40,000 of them."""
    words = [f"w{number}" for number in range(40_000)]

    def change(data: dict[str, Any]) -> None:
        data["lists"] |= {"w": {"words": words}, "v": {"words": [f"v{word}" for word in words]}}
        data["slots"]["YY"] = "w"
        data["held_out"] = {"test": {"w": words}}
        data["good"] = {"list": "v", "after": "YY"}

    data = build_data(task(change)["data"])
    with within_seconds(3):
        plan, problems = read_plan(data, tmp_path)
        shown = outside_list(plan, "good")
    assert problems == []
    assert shown[0][1].startswith("list 'v' does not have w0, w1")


def test_more_tokens_than_can_be_held_are_not_drawn(tmp_path: Path) -> None:
    """A million pairs of two thousand tokens are 16 GB."""
    data = task(lambda d: d.update(templates=["w " * 1_900 + TEXT]))
    data["data"]["lists"]["nouns"] = ["war"]
    data["evaluation"] |= {"discovery_pairs": 1_000_000, "test_pairs": 80_000}
    assert messages(tmp_path, data) == [
        "evaluation.discovery_pairs: 1,000,000 pairs of up to 1,910 tokens are too many to be held "
        "at once; ask for fewer",
        "evaluation.test_pairs: 80,000 pairs of up to 1,910 tokens are too many to be held at "
        "once; ask for fewer",
    ]


def test_a_suite_of_names_that_nothing_answers_to(tmp_path: Path) -> None:
    found = messages(tmp_path, {**SUITE, "tasks": [f"none{n}" for n in range(300)]}, "suite")
    assert sum("unknown task 'none" in one for one in found) == 300
    found = messages(tmp_path, {**SUITE, "tasks": [f"none{n}" for n in range(1_001)]}, "suite")
    assert "tasks: takes at most 1000 items" in found


def test_every_limit_of_a_key_has_words() -> None:
    """A limit without words was a traceback in front of whoever went beyond it."""
    own_words = {"const", "enum", "pattern", "multipleOf"}  # `x-message`, or named elsewhere
    for keyword in set(_LIMITS.values()) - own_words:
        assert _limit_words(keyword, 1, [])


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/full"])
def test_word_files_are_bounded(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_lists, "LARGEST_FILE", 1 << 16)
    data = task(lambda d: d["lists"].update(nouns={"file": name}))
    assert f"data.lists.nouns: word file {name} is larger than 0 MiB" in messages(tmp_path, data)


def test_limits_are_as_the_docs_say() -> None:
    page = (ROOT / "harness/docs/template-data.md").read_text()
    for number in (
        word_lists.MOST_WORDS,
        word_lists.LONGEST_RANGE,
        read.MOST_RULES,
        frames.MOST_CHARACTERS,
        check.MOST_TOKENS,
    ):
        assert f"{number:,}" in page
