"""CSV as RFC 4180 has it, by line: quotes are doubled inside of quotes, and nothing is guessed.

A reader that guesses merges rows or loses quotes where a file escapes them with backslashes, so
such a row is refused, as is one with more or fewer fields than the header.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from harness.datasets.files.limits import LONGEST_ROW
from harness.datasets.files.lines import read_lines
from harness.errors import HarnessError
from harness.spec.printable import quoted

_QUOTED = re.compile(r'"([^"]*+(?:""[^"]*+)*+)"(?=,|\Z)')
_PLAIN = re.compile(r'[^",]*+(?=,|\Z)')
_BACKSLASH = '\\"'
_HINT = "double the quotes inside a quoted text, or write the file as JSON Lines"

Fields = list[str | None]  # None: nothing between two commas


@dataclass(frozen=True)
class CsvRow:
    """The fields of a row by column; `line` is its first. `error` says why it is unreadable."""

    line: int
    values: dict[str, str | None]
    error: str | None = None


def csv_rows(file: BinaryIO, shown: str) -> Iterator[CsvRow]:
    """The rows after the header. Raises `HarnessError` if there is no sound header."""
    header: list[str] | None = None
    for line, fields, error in _records(file, shown):
        if header is None:
            header = _header(fields, error, f"{shown}:{line}")
        elif error is None and len(fields) != len(header):
            yield CsvRow(line, {}, f"{_count(len(fields))}, and the header has {len(header)}")
        else:
            values = {} if error else dict(zip(header, fields, strict=True))
            yield CsvRow(line, values, error)
    if header is None:
        raise HarnessError(f"{shown}: no header; the first line has to name the columns")


def _header(fields: Fields, error: str | None, place: str) -> list[str]:
    names = ["" if name is None else name for name in fields]
    if error is None and len(set(names)) < len(names):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        error = f"column {quoted(twice)} stands twice"
    if error:
        raise HarnessError(f"{place}: {error}")
    return names


def _records(file: BinaryIO, shown: str) -> Iterator[tuple[int, Fields, str | None]]:
    """(first line, fields, error) of every record; lines are joined while a quote is open."""
    parts: list[str] = []
    first = size = quotes = 0
    for line in read_lines(file, shown):
        first = first or line.number
        parts.append(line.text)
        size += len(line.text) + 1
        quotes += line.text.count('"')
        error = line.error
        fields: Fields = []
        if error is None and _BACKSLASH in line.text:
            error = f"a backslash before a quote; {_HINT}"
        elif size > LONGEST_ROW:
            error = f"more than {LONGEST_ROW >> 20} MiB without a closing quote"
        if error is None and quotes % 2:
            continue
        text = "\n".join(parts).removesuffix("\r")
        if error is None:
            fields, error = _fields(text)
        if text or error:
            yield first, fields, error
        parts = []
        first = size = quotes = 0
    if first:
        yield first, [], "the quote that is opened here is never closed"


def _fields(text: str) -> tuple[Fields, str | None]:
    if '"' not in text:
        return [field or None for field in text.split(",")], None
    fields: Fields = []
    at = 0
    while at <= len(text):
        if text.startswith('"', at):
            match = _QUOTED.match(text, at)
            if match is None:
                return [], f"text after a closing quote; {_HINT}"
            fields.append(match[1].replace('""', '"'))
        else:
            match = _PLAIN.match(text, at)
            if match is None:
                return [], f"a quote inside a text without quotes around it; {_HINT}"
            fields.append(match[0] or None)
        at = match.end() + 1
    return fields, None


def _count(fields: int) -> str:
    return "1 field" if fields == 1 else f"{fields} fields"
