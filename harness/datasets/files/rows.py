"""Reads the rows of JSON Lines, CSV and Parquet files, each with its place for messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
MOST_SHOWN = 20  # problems listed at once


@dataclass(frozen=True)
class FileRow:
    """One row: `place` is "name:line" (Parquet: "name: row n"), `error` why it is unreadable."""

    place: str
    values: dict[str, Any]
    error: str | None = None


def read_rows(path: Path, shown: str, file_format: str | None) -> list[FileRow]:
    """Return all rows; `shown` names the file in messages.

    Raises HarnessError if the file cannot be read at all or its format is unknown.
    """
    chosen = file_format or FORMATS.get(path.suffix.lower())
    if chosen is None:
        raise HarnessError(
            f"{shown}: format unknown from the name; set data.format to jsonl, csv or parquet"
        )
    if not path.is_file():
        raise HarnessError(f"{shown}: no such file (looked for {path})")
    if chosen == "jsonl":
        return list(_json_lines(path, shown))
    return list(_table(path, shown, chosen))


def listed(problems: list[str]) -> str:
    """Return problems one per line, the first `MOST_SHOWN` of them."""
    more = len(problems) - MOST_SHOWN
    return "\n".join(problems[:MOST_SHOWN] + ([f"… and {more} more"] if more > 0 else []))


def _json_lines(path: Path, shown: str) -> Iterator[FileRow]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"{shown}: {error}") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{shown}:{number}"
        try:
            values = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            yield FileRow(place, {}, f"not JSON: {error}")
            continue
        if isinstance(values, dict):
            yield FileRow(place, values)
        else:
            yield FileRow(place, {}, "not a JSON object")


def _table(path: Path, shown: str, chosen: str) -> Iterator[FileRow]:
    import polars

    try:
        if chosen == "csv":
            # All columns as text: a year 05 must not become the number 5.
            table = polars.read_csv(path, infer_schema=False)
        else:
            table = polars.read_parquet(path)
    except (polars.exceptions.PolarsError, OSError) as error:
        raise HarnessError(f"{shown} is not a readable {chosen} file: {error}") from error
    line = 2  # after the header
    for number, values in enumerate(table.iter_rows(named=True), start=1):
        yield FileRow(f"{shown}:{line}" if chosen == "csv" else f"{shown}: row {number}", values)
        # A quoted text may span lines.
        line += 1 + sum(str(value).count("\n") for value in values.values() if value is not None)
