"""Text from files and arguments made safe and short enough for a message.

Names come from files of other people: control characters could rewrite the terminal, and
direction marks could make one name look like another.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # control characters
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks of writing direction
    r"\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb"  # not seen themselves
    r"\U000e0000-\U000e007f"  # tags, which are not seen either
    r"\ud800-\udfff\ufffe\uffff]"  # no characters
)
_LONGEST = 60


def printable(text: str) -> str:
    """`text` with control characters, direction marks and what is no character as escapes."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def printable_lines(text: str) -> str:
    """The same of a text with lines and tabs, which stay. JSON stays the same JSON."""
    return _UNSAFE.sub(_in_json, text)


def _in_json(match: re.Match[str]) -> str:
    if match[0] in "\n\t":
        return match[0]
    return json.dumps(match[0])[1:-1].replace("\x7f", r"\u007f")  # which JSON need not escape


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
