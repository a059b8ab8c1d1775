"""Cells of a row as texts: prompts, answers, and the answer that is marked in a prompt."""

from __future__ import annotations

from itertools import islice
from typing import Any

from harness.datasets.files.rows import MOST_SHOWN, FileRow
from harness.spec.printable import printable, quoted

_OPEN, _CLOSE = "<predict>", "</predict>"


def text_of(row: FileRow, column: str) -> str:
    """The text in a column. Raises `ValueError` if there is none."""
    if column not in row.values:
        there = [printable(name) for name in islice(row.values, MOST_SHOWN)]
        raise ValueError(f"no column {column!r}; there are: {', '.join(there) or 'none'}")
    value = row.values[column]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"column {column!r} must be a text, not {shown_value(value)}")
    return _unicode(value)


def answers_of(row: FileRow, column: str) -> tuple[str, ...]:
    """The text, or the list of texts, in a column. Raises `ValueError` for anything else."""
    value: Any = row.values.get(column)
    if isinstance(value, str) and value:
        return (_unicode(value),)
    if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
        return tuple(dict.fromkeys(_unicode(one) for one in value))
    if column not in row.values:
        return (text_of(row, column),)  # names the columns there are
    raise ValueError(
        f"column {column!r} must be a text or a list of texts, not {shown_value(value)}"
    )


def shown_value(value: Any) -> str:
    """A value in a message; nested ones can be too large and too deep to be shown."""
    if isinstance(value, (list, dict)):
        return ("a list" if isinstance(value, list) else "a mapping") if value else repr(value)
    return quoted(value)


def _unicode(text: str) -> str:
    """Return the text; ValueError if it holds half a character, as JSON escapes can."""
    text.encode("utf-8")
    return text


def unmarked(text: str, spaced: bool) -> tuple[str, tuple[str, ...]]:
    """Return the prompt and the answer marked in it, if any."""
    if _OPEN not in text and _CLOSE not in text:
        return text, ()
    prompt, _, marked = text.partition(_OPEN)
    answer, closed, rest = marked.partition(_CLOSE)
    if not closed or text.count(_OPEN) > 1 or text.count(_CLOSE) > 1:
        raise ValueError("exactly one <predict>…</predict> is understood")
    if rest.strip():
        raise ValueError(f"text after </predict> would never be read: {quoted(rest.strip())}")
    if spaced and prompt.endswith(" "):
        prompt, answer = prompt[:-1], " " + answer
    if not prompt.strip() or not answer.strip():
        raise ValueError("<predict> needs a prompt before it and an answer in it")
    return prompt, (answer,)
