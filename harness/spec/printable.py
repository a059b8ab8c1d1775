"""Text from files and arguments made safe and short enough for a message.

Names come from files of other people: control characters could rewrite the terminal, and
direction marks could make one name look like another.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
_LONGEST = 60


def printable(text: str) -> str:
    """`text` with control characters, direction marks and what is no character as escapes."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def quoted(value: Any) -> str:
    """A value as written in messages: strings in single quotes, long ones cut."""
    if isinstance(value, str):
        return f"'{_cut(printable(value))}'"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _cut(printable(str(value)))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def shown_path(path: Path) -> str:
    """A path as a user would type it: relative to the current folder where it is below it."""
    here = Path.cwd()
    absolute = path if path.is_absolute() else here / path
    return printable(str(absolute.relative_to(here) if absolute.is_relative_to(here) else path))
