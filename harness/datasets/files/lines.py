"""Lines of text files of other people: bounded, decoded one by one, without a byte order mark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from harness.datasets.files.limits import LONGEST_ROW, MOST_LINES, MOST_ROWS
from harness.errors import HarnessError

_BOM = b"\xef\xbb\xbf"
_OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True)
class TextLine:
    """A line without its line feed, counted from 1; `error` says why it has no text."""

    number: int
    text: str
    error: str | None = None


def read_lines(file: BinaryIO, shown: str) -> Iterator[TextLine]:
    """The lines of a file in UTF-8; `shown` names it in messages.

    Raises `HarnessError` for a line of more than `LONGEST_ROW` bytes, for more lines than rows
    can have, and for another encoding.
    """
    number = 0
    while raw := file.readline(LONGEST_ROW + 1):
        number += 1
        if number > MOST_LINES:
            raise too_many_rows(shown)
        if len(raw) > LONGEST_ROW:
            raise HarnessError(
                f"{shown}:{number}: a line of more than {LONGEST_ROW >> 20} MiB; is this the "
                "right file?"
            )
        if number == 1:
            if other := _OTHER_ENCODINGS.get(raw[:2]):
                raise HarnessError(f"{shown}: this is {other}; save the file as UTF-8")
            raw = raw.removeprefix(_BOM)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            yield TextLine(number, "", f"not UTF-8: {error.reason} at byte {error.start + 1}")
        else:
            yield TextLine(number, text.removesuffix("\n"))


def too_many_rows(shown: str) -> HarnessError:
    """The error for a file of more rows than are read."""
    return HarnessError(f"{shown}: more than {MOST_ROWS:,} rows; leave out what is not needed")
