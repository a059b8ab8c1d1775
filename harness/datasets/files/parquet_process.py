"""A program: writes the rows of a Parquet file to stdout, as JSON Lines.

`parquet_rows` runs it in a process of its own, because a damaged Parquet file can make the reader
panic, ask for any amount of memory, or end the whole process. Imports nothing of the package.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

MARK = "\x1e"  # before the message; what the reader itself prints comes earlier


def write_rows(path: str, seconds: int, most_bytes: int, most_rows: int) -> None:
    """Write all rows; the file is read within so much processor time and address space."""
    _limit(seconds, most_bytes)
    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars

    with open(path, "rb") as file:  # a path would be read as a pattern: `d[1].parquet`
        table = polars.read_parquet(file)
    if table.height > most_rows:
        raise ValueError(f"more than {most_rows:,} rows")
    # What is left has as many steps as there are rows.
    _limit(int(time.process_time()) + 5 + table.height // 10_000, most_bytes)
    for row in table.iter_rows(named=True):
        sys.stdout.write(json.dumps(row, default=_other) + "\n")
    sys.stdout.flush()


def _other(value: Any) -> dict[str, str]:
    """Dates, bytes and the like: no text, so that nothing takes them for one."""
    return {type(value).__name__: str(value)}


def _limit(seconds: int, most_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # not on this platform
        return
    for what, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, most_bytes)):
        hard = resource.getrlimit(what)[1]
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (soft, hard))


if __name__ == "__main__":
    try:
        write_rows(sys.argv[1], *map(int, sys.argv[2:]))
    except BaseException as error:  # a panic of the reader is no Exception
        sys.stderr.write(f"{MARK}{type(error).__name__}: {error}\n")
        sys.exit(1)
