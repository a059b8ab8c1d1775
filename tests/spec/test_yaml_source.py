"""Values are those of YAML 1.2 core, and every key and value knows its place."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from harness.spec.yaml.source import KEY, Source, parse_text, read_source


def source(text: str) -> Source:
    found = parse_text(text, Path("x.yaml"))
    assert found.faults == ()
    return found


def faults(text: str) -> list[str]:
    return [issue.message for issue in parse_text(text, Path("x.yaml")).faults]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2.5E+2", -250.0),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("+7", 7),
        ("-0", 0),
        (str(2**63 - 1), 2**63 - 1),
        (str(-(2**63)), -(2**63)),
        ("0" * 5000 + "7", 7),
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("", None),
        ("Null", None),
        ("nUll", "nUll"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("0b1", "0b1"),
        ("1e", "1e"),
        (".", "."),
        ("١٢", "١٢"),  # only ASCII digits are numbers
        ("nan", "nan"),
        ('"1e-3"', "1e-3"),
        ("'null'", "null"),
        ('"<<"', "<<"),
        ("|\n  a\n  b", "a\nb\n"),
        (">\n  a\n  b", "a b\n"),
        ('"a\\tb"', "a\tb"),
    ],
)
def test_scalars(text: str, value: Any) -> None:
    found = source(f"k: {text}\n").data["k"]
    assert found == value
    assert type(found) is type(value)


def test_places_of_keys_and_values() -> None:
    text = "# comment\na:\n  b: [x, {c: 1}]\n"
    found = source(text)
    assert found.data == {"a": {"b": ["x", {"c": 1}]}}
    assert found.positions[()] == (2, 1)
    assert found.positions[(KEY, "a")] == (2, 1)
    assert found.positions[("a",)] == (3, 3)
    assert found.positions[("a", KEY, "b")] == (3, 3)
    assert found.positions[("a", "b", 0)] == (3, 7)
    assert found.positions[("a", "b", 1, KEY, "c")] == (3, 11)
    assert found.positions[("a", "b", 1, "c")] == (3, 14)


def test_an_issue_marks_a_key_a_value_or_what_is_nearest() -> None:
    found = source("a:\n  b: [1, word]\n")
    assert str(found.issue(("a", "b", 1), "bad")) == (
        "x.yaml:2:10: error: a.b.1: bad\n   2 |   b: [1, word]\n     |          ^^^^"
    )
    assert str(found.issue(("a",), "bad", at_key="b")).startswith("x.yaml:2:3: error: a: bad\n")
    # a list is marked at its key, and so is what is not in the file at all
    assert (found.issue(("a", "b"), "bad").line, found.issue(("a", "b"), "bad").column) == (2, 3)
    absent = found.issue(("a", "b", 7, "c"), "bad")
    assert (absent.line, absent.column, absent.where) == (2, 3, "a.b.7.c")


def test_places_with_byte_order_mark_windows_lines_and_wide_characters(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes("\ufeffa: 1\r\n日本語: {b: 2}\r\n".encode())
    found = read_source(path, "x.yaml")
    assert found.data == {"a": 1, "日本語": {"b": 2}}
    assert found.positions[(KEY, "a")] == (1, 1)
    assert found.positions[("日本語", "b")] == (2, 10)
    assert found.line(2) == "日本語: {b: 2}"


def test_aliases_are_copies_placed_where_they_are_written() -> None:
    found = source("a: &x {k: [1]}\nb: *x\n")
    assert found.data == {"a": {"k": [1]}, "b": {"k": [1]}}
    assert found.data["a"]["k"] is not found.data["b"]["k"]
    assert found.positions[("b", "k", 0)] == (1, 12)


def test_all_faults_of_a_file_at_once() -> None:
    assert faults("a: !t 1\na: 2\n<<: 3\n? [k]\n: 4\n*z : 5\n") == [
        "tags such as '!t' are not allowed",
        "duplicate key 'a' (first at line 1)",
        "merge keys ('<<') are not allowed; write the keys out",
        "a key must be a string",
        "alias '*z' has no anchor above it",
    ]


def test_an_alias_as_key_counts_as_its_value() -> None:
    assert source("a: &x word\n*x : 1\n").data == {"a": "word", "word": 1}
    assert faults("a: &x [1]\n*x : 1\n") == ["a key must be a string"]


def test_a_chain_of_aliases_cannot_nest_without_end() -> None:
    chain = "a0: &a0 [x]\n" + "".join(
        f"a{i}: &a{i} {'[' * 20}*a{i - 1}{']' * 20}\n" for i in range(1, 100)
    )
    assert faults(chain) == ["nested deeper than 64 levels"]


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 100_000, "- " * 100_000, "? " * 100_000])
def test_deep_nesting_is_quick_and_safe(text: str) -> None:
    start = time.perf_counter()
    assert len(faults(text)) == 1
    assert time.perf_counter() - start < 2


def test_a_key_that_is_a_bomb_is_not_written_out() -> None:
    bomb = "a: &a [x, x, x, x]\n" + "".join(
        f"{one}: &{one} [{', '.join(['*' + other] * 8)}]\n"
        for other, one in zip("abcd", "bcde", strict=True)
    )
    assert faults(bomb + "? *e\n: !t 1\n")[0].startswith(("tags", "more than"))
