"""Data files as other people write and damage them: accepted exactly, or refused by line."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from pathlib import Path
from typing import Any

import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.files import limits, parquet_rows, rows
from harness.datasets.files.csv_rows import csv_rows
from harness.datasets.files.rows import read_rows
from harness.datasets.files.spec import Columns, FileData
from harness.datasets.files.task import FileTask, open_file
from harness.errors import HarnessError
from harness.spec.types import TokenizerSpec

WORDS = TokenizerSpec(kind="words", bos=True)
DECLARED = Columns(good="good", bad="bad")
ONE = {"clean": "a b", "corrupted": "a c", "good": "x", "bad": "y"}
HEADER = "clean,corrupted,good,bad\n"


def opened(folder: Path, name: str, raw: bytes | str) -> FileTask:
    (folder / name).write_bytes(raw.encode() if isinstance(raw, str) else raw)
    spec = FileData(path=name, columns=DECLARED)
    return open_file(spec, WORDS, folder)


def refusal(folder: Path, name: str, raw: bytes | str) -> list[str]:
    with pytest.raises(HarnessError) as caught:
        opened(folder, name, raw)
    return str(caught.value).split("\n")


def parquet(data: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    polars.DataFrame(data).write_parquet(buffer)
    return buffer.getvalue()


def lines(*data: dict[str, Any]) -> str:
    return "\n".join(json.dumps(one) for one in data)


# ---------------------------------------------------------------- one clean prompt, several rows
def test_opposite_labels_of_one_prompt_are_refused_by_line(tmp_path: Path) -> None:
    """Formerly the first row stayed and the other vanished without a word."""
    other = {**ONE, "good": "y", "bad": "x"}
    assert refusal(tmp_path, "d.jsonl", lines(ONE, {**ONE, "clean": "d b"}, other)) == [
        "d.jsonl:3: 'y' is a good answer here and a bad one in d.jsonl:1, which has the same "
        "clean prompt"
    ]


def test_rows_not_used_are_counted(tmp_path: Path) -> None:
    again = {**ONE, "corrupted": "e c"}
    task = opened(tmp_path, "d.jsonl", lines(ONE, again, {**ONE, "clean": "d b"}, again))
    assert task.left_out == (
        "d.jsonl: 2 of 4 rows are left out, for their clean prompt stands in an earlier row "
        "(d.jsonl:2 as d.jsonl:1; d.jsonl:4 as d.jsonl:1)"
    )
    counted = sum(len(task.pairs(one, 4, 0, at_most=True)) for one in _splits_with_rows(task))
    assert counted == 2
    assert opened(tmp_path, "d.jsonl", lines(ONE)).left_out is None


def _splits_with_rows(task: FileTask) -> list[str]:
    def has_rows(split: str) -> bool:
        try:
            return bool(len(task.pairs(split, 1, 0, at_most=True)))
        except HarnessError:
            return False

    return [split for split in task.splits if has_rows(split)]


# ---------------------------------------------------------------- JSON Lines
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"clean": ' + "9" * 5000 + "}", "an integer of 5000 digits"),
        ('{"\\ud800": 1}', "no column 'clean'; there are: \\ud800"),
        (json.dumps(ONE)[:-1] + ', "clean": "z"}', "key 'clean' stands twice"),
        ('{"a": {"b": 1, "b": 2}}', "key 'b' stands twice"),
        ('{"clean": ' + "[" * 100_000, "nested too deeply"),
        (
            '{"clean": ' + "[" * 900 + "]" * 900 + ', "corrupted": 1}',
            "column 'clean' must be a text, not a list",
        ),
        ('{"clean": "a', "not JSON: Unterminated string starting at at column 11"),
        (
            json.dumps({**ONE, "clean": "<predict>" * 20_000}),
            "exactly one <predict>…</predict> is understood",
        ),
        (
            json.dumps({**ONE, "clean": "a" + "</predict>" * 20_000 + "<predict>b"}),
            "exactly one <predict>…</predict> is understood",
        ),
    ],
    ids=lambda value: str(value)[:24],
)
def test_lines_that_are_refused(tmp_path: Path, line: str, message: str) -> None:
    assert refusal(tmp_path, "d.jsonl", f"{json.dumps(ONE)}\n{line}\n") == [f"d.jsonl:2: {message}"]


def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    raw = f"{json.dumps(ONE)}\n".encode()
    assert refusal(tmp_path, "d.jsonl", raw + b'{"clean": "\xff"}\n') == [
        "d.jsonl:2: not UTF-8: invalid start byte at byte 12"
    ]
    assert refusal(tmp_path, "d.jsonl", raw.decode().encode("utf-16")) == [
        "d.jsonl: this is UTF-16; save the file as UTF-8"
    ]


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv"])
def test_a_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path, name: str) -> None:
    text = f"{json.dumps(ONE)}\n" if name == "d.jsonl" else f"{HEADER}a b,a c,x,y\n"
    raw = b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    task = opened(tmp_path, name, raw)
    assert task.tokenizer.tokens == ("<bos>", "a", "b", "c", "x", "y")


# ---------------------------------------------------------------- CSV
@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ('"say \\"a\\" b",a c,x,y\na b,a c,x,y\n', {2: "a backslash before a quote"}),
        (  # the quotes pair up: a reader that guesses merges three rows into one
            'a b,a c,x,y\n"q \\"",a c,x,y\nc d,a c,x,y\n"e ""f""",a c,x,y\n',
            {3: "a backslash before a quote"},
        ),
        ('a b,a c,x,"y" z\n', {2: "text after a closing quote"}),
        ('a "b",a c,x,y\n', {2: "a quote inside a text without quotes around it"}),
        ("a b,a c,x\na b,a c,x,y,z\n", {2: "3 fields, and", 3: "5 fields, and the header has 4"}),
        ('a b,a c,x,y\n"a b,a c,x,y\na d,a c,x,y\n', {3: "the quote that is opened here"}),
    ],
)
def test_csv_that_is_refused_by_line(tmp_path: Path, text: str, faults: dict[int, str]) -> None:
    shown = refusal(tmp_path, "d.csv", HEADER + text)
    assert len(shown) == len(faults)
    for line, (number, message) in zip(shown, faults.items(), strict=True):
        assert line.startswith(f"d.csv:{number}: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "d.csv: no header"),
        ("\n\n", "d.csv: no header"),
        ("clean,good,clean\n", "d.csv:1: column 'clean' stands twice"),
        ('"clean\n', "d.csv:1: the quote that is opened here is never closed"),
        (HEADER, "d.csv: no rows"),
    ],
)
def test_csv_without_a_sound_header(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, "d.csv", text)[0].startswith(message)


fields = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=("Cs",)), max_size=6
)


@given(st.lists(st.lists(fields, min_size=2, max_size=2), min_size=1, max_size=5), st.booleans())
def test_what_the_csv_module_writes_is_read_back(table: list[list[str]], quote_all: bool) -> None:
    """Law: every table without a backslash before a quote survives, with the line of each row."""
    buffer = io.StringIO()
    style = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    writer = csv.writer(buffer, lineterminator="\n", quoting=style)
    writer.writerow(["a", "b"])
    starts = []
    for row in table:
        starts.append(1 + buffer.getvalue().count("\n"))
        writer.writerow(row)
    read = list(csv_rows(io.BytesIO(buffer.getvalue().encode()), "d.csv"))
    if '\\"' in buffer.getvalue():
        assert any(row.error for row in read)
        return
    assert [row.error for row in read] == [None] * len(table)
    assert [row.line for row in read] == starts
    assert [[value or "" for value in row.values.values()] for row in read] == table


# ---------------------------------------------------------------- names, Parquet
@pytest.mark.parametrize("name", ["d[1].csv", "d[1].parquet", "d*.csv", "d?.parquet"])
def test_names_are_no_patterns(tmp_path: Path, name: str) -> None:
    raw = parquet([ONE]) if name.endswith("parquet") else f"{HEADER}a b,a c,x,y\n".encode()
    other = parquet([{"clean": 1}]) if name.endswith("parquet") else b"other\n1\n"
    (tmp_path / f"d1.{name.rpartition('.')[2]}").write_bytes(other)
    assert opened(tmp_path, name, raw).longest == 3


def test_damaged_parquet_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Bytes of the footer changed so that the reader panics, which is no Exception."""
    raw = parquet([ONE, {**ONE, "clean": "d e"}])
    for damaged in (raw[: len(raw) // 2], raw[:-30] + b"\xff" * 10 + raw[-20:]):
        (line,) = refusal(tmp_path, "d.parquet", damaged)
        assert line.startswith("d.parquet is not a readable Parquet file: ")
    written = capfd.readouterr()
    assert "panicked" not in written.err + written.out


def test_a_parquet_reader_that_runs_away_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_rows, "MOST_BYTES", 64 << 20)
    (line,) = refusal(tmp_path, "d.parquet", parquet([ONE]))
    assert line.startswith("d.parquet is not a readable Parquet file: ")


def test_values_of_parquet_that_are_no_text(tmp_path: Path) -> None:
    assert refusal(tmp_path, "d.parquet", parquet([{**ONE, "clean": date(2020, 1, 1)}])) == [
        "d.parquet: row 1: column 'clean' must be a text, not a mapping"
    ]


# ---------------------------------------------------------------- limits
@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.parquet"])
def test_limits(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = [{**ONE, "clean": f"n{number} b"} for number in range(4)]
    raw = {
        "d.jsonl": lines(*data).encode(),
        "d.csv": (HEADER + "".join(",".join(row.values()) + "\n" for row in data)).encode(),
        "d.parquet": parquet(data),
    }[name]
    assert opened(tmp_path, name, raw).left_out is None
    monkeypatch.setattr(rows, "MOST_ROWS", 3)
    assert refusal(tmp_path, name, raw)[0].startswith(f"{name}: more than ")
    monkeypatch.setattr(rows, "MOST_ROWS", 4)
    monkeypatch.setattr(rows, "LARGEST", len(raw) - 1)
    assert refusal(tmp_path, name, raw)[0].startswith(f"{name}: the file is larger than ")


def test_a_line_without_end_is_not_read(tmp_path: Path) -> None:
    raw = lines(ONE) + "\n" + '{"clean": "' + "a" * limits.LONGEST_ROW + '"}'
    assert refusal(tmp_path, "d.jsonl", raw) == [
        "d.jsonl:2: a line of more than 1 MiB; is this the right file?"
    ]


def test_one_long_prompt_does_not_pad_all_others(tmp_path: Path) -> None:
    """300 rows padded to 150,000 tokens would fill 45 million places twice."""
    data = [{**ONE, "clean": f"n{number} b"} for number in range(300)]
    long = {**ONE, "clean": "a " * 149_999 + "b", "corrupted": "a " * 149_999 + "c"}
    (line,) = refusal(tmp_path, "d.jsonl", lines(*data, long))
    assert line.startswith("d.jsonl:301: 150,001 tokens, and all 301 prompts")


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    for name in ("x" * 5000 + ".csv", "a\0b.csv"):
        with pytest.raises(HarnessError, match="no such file"):
            list(read_rows(tmp_path / name, "d.csv", "csv"))
