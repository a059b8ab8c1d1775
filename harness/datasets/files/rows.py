"""Reads the rows of JSON Lines, CSV and Parquet files, each with its place for messages.

Files come from other people: how large they may be stands in `limits`, and whatever else a file
holds, reading it ends in rows or in a `HarnessError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.datasets.files.csv_rows import csv_rows
from harness.datasets.files.limits import LARGEST, MOST_ROWS
from harness.datasets.files.lines import TextLine, read_lines, too_many_rows
from harness.datasets.files.parquet_rows import parquet_lines
from harness.errors import HarnessError
from harness.spec.yaml.strict_json import read_json

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
MOST_SHOWN = 20  # problems listed at once
LONGEST_PROBLEM = 500  # characters of one


@dataclass(frozen=True)
class FileRow:
    """One row: `place` is "name:line" (Parquet: "name: row n"), `error` why it is unreadable."""

    place: str
    values: dict[str, Any]
    error: str | None = None


def read_rows(path: Path, shown: str, file_format: str | None) -> Iterator[FileRow]:
    """Yield all rows; `shown` names the file in messages.

    Raises HarnessError if the file cannot be read at all, is too large, or its format is unknown.
    """
    chosen = file_format or FORMATS.get(path.suffix.lower())
    if chosen is None:
        raise HarnessError(
            f"{shown}: format unknown from the name; set data.format to jsonl, csv or parquet"
        )
    if not _is_file(path):
        raise HarnessError(f"{shown}: no such file (looked for {path})")
    try:
        if path.stat().st_size > LARGEST:
            raise HarnessError(f"{shown}: the file is larger than {LARGEST >> 20} MiB")
        for number, row in enumerate(_READERS[chosen](path, shown), start=1):
            if number > MOST_ROWS:
                raise too_many_rows(shown)
            yield row
    except OSError as error:
        raise HarnessError(f"{shown}: {error.strerror or error}") from error


def listed(problems: list[str]) -> str:
    """Return problems one per line, the first `MOST_SHOWN` of them, and of long ones the start."""
    more = len(problems) - MOST_SHOWN
    shown = [
        one if len(one) <= LONGEST_PROBLEM else one[: LONGEST_PROBLEM - 1] + "…"
        for one in problems[:MOST_SHOWN]
    ]
    return "\n".join(shown + ([f"… and {more} more"] if more > 0 else []))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a path that cannot exist: too long, a NUL inside
        return False


def _json_lines(path: Path, shown: str) -> Iterator[FileRow]:
    with path.open("rb") as file:
        yield from _json_rows(read_lines(file, shown), lambda number: f"{shown}:{number}")


def _csv(path: Path, shown: str) -> Iterator[FileRow]:
    with path.open("rb") as file:
        for row in csv_rows(file, shown):
            yield FileRow(f"{shown}:{row.line}", row.values, row.error)


def _parquet(path: Path, shown: str) -> Iterator[FileRow]:
    lines = parquet_lines(path, shown)
    yield from _json_rows(lines, lambda number: f"{shown}: row {number}")


def _json_rows(lines: Iterable[TextLine], place: Callable[[int], str]) -> Iterator[FileRow]:
    for line in lines:
        if line.error is None and not line.text.strip():
            continue
        values, error = None, line.error
        try:
            values = read_json(line.text) if error is None else None
        except ValueError as misfit:
            error = str(misfit)
        if error is None and not isinstance(values, dict):
            error = "not a JSON object"
        yield FileRow(place(line.number), values if isinstance(values, dict) else {}, error)


_READERS: dict[str, Callable[[Path, str], Iterator[FileRow]]] = {
    "jsonl": _json_lines,
    "csv": _csv,
    "parquet": _parquet,
}
