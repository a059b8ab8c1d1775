"""Columns of short texts, as many beside each other as a line holds."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from harness.spec.printable import printable

LONGEST = 24
"""Cells of a text that is not cut."""


_UNSEEN = re.compile(r"[^\S ]")
"""White space but the plain one."""


def cells(text: str) -> int:
    """Places that a text takes in a terminal: wide characters two, combining ones none."""
    return sum(_cells(character) for character in text)


def _cells(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def padded(text: str, width: int) -> str:
    """A text with spaces up to a width."""
    return text + " " * (width - cells(text))


def token(text: str) -> str:
    """A token as one visible word: spaces at its ends as ␣, what cannot be seen as escapes."""
    shown = _UNSEEN.sub(_escaped, printable(text))
    inner = shown.strip(" ")
    if not inner:
        return "␣" * len(shown) or "''"
    before = len(shown) - len(shown.lstrip(" "))
    after = len(shown) - len(shown.rstrip(" "))
    whole = "␣" * before + inner + "␣" * after
    while cells(whole) > LONGEST:
        whole = whole[: max(1, len(whole) - (cells(whole) - LONGEST) - 1)] + "…"
    return whole


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def blocks(rows: Sequence[Sequence[str]], heads: Sequence[str], width: int) -> Iterator[list[str]]:
    """Rows of equally many texts as lines at most `width` wide (a column at least), block by block.

    `heads` stand before each row, in every block.
    """
    margin = max(map(cells, heads)) + 2
    widths = [max(map(cells, column)) + 1 for column in zip(*rows, strict=True)]
    start = 0
    while start < len(widths):
        end, used = start + 1, margin + widths[start]
        while end < len(widths) and used + widths[end] <= width:
            used += widths[end]
            end += 1
        yield [
            (
                padded(head, margin)
                + "".join(padded(row[at], widths[at]) for at in range(start, end))
            ).rstrip()
            for head, row in zip(heads, rows, strict=True)
        ]
        start = end
