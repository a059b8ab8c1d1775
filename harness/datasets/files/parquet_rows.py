"""Parquet files, read by a process of its own (`parquet_process`) that may not run away."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

from harness.datasets.files.limits import LARGEST, MOST_ROWS
from harness.datasets.files.lines import TextLine, read_lines
from harness.datasets.files.parquet_process import MARK
from harness.errors import HarnessError
from harness.spec.printable import printable

PROGRAM = Path(__file__).with_name("parquet_process.py")
MOST_SECONDS = 4
"""Processor time of reading, and one second more for each MiB of the file."""
MOST_BYTES = 3 << 29
"""Address space, half of which the reader maps for itself, and eight times the file."""


def parquet_lines(path: Path, shown: str) -> Iterator[TextLine]:
    """Every row as a line of JSON. Raises `HarnessError` if the file cannot be read."""
    size = path.stat().st_size
    limits = (MOST_SECONDS + (size >> 20), MOST_BYTES + 8 * size, MOST_ROWS)
    command = [sys.executable, "-P", str(PROGRAM), str(path), *map(str, limits)]
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages
        )
        written = 0
        try:
            for line in read_lines(cast(BinaryIO, process.stdout), shown):
                written += len(line.text)
                if written > LARGEST:
                    raise HarnessError(f"{shown}: more than {LARGEST >> 20} MiB of text")
                yield line
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            cast(IO[bytes], process.stdout).close()
        if code:
            raise HarnessError(f"{shown} is not a readable Parquet file: {_why(code, messages)}")


def _why(code: int, messages: IO[bytes]) -> str:
    if code < 0:
        return f"reading it was ended by signal {-code}, for want of time or memory"
    messages.seek(0)
    text = messages.read().decode("utf-8", "replace")
    lines = text.rpartition(MARK)[2].strip().splitlines()
    return printable(lines[0][:300]) if lines else f"reading it ended with code {code}"
