"""Data files of every format, as a user of the harness would write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars


def write(folder: Path, name: str, data: list[dict[str, Any]]) -> str:
    """Write rows in the format of the name's ending, by default JSON Lines; returns the name."""
    path = folder / name
    if name.endswith(".csv"):
        polars.DataFrame(data).write_csv(path)
    elif name.endswith(".parquet"):
        polars.DataFrame(data).write_parquet(path)
    else:
        path.write_text("\n".join(json.dumps(row) for row in data), encoding="utf-8")
    return name
