"""Mistakes in spec files: where they are, what is wrong, and how they are shown.

The text form is that of compilers, so that editors and terminals make it clickable:

    tasks/ioi.yaml:7:3: error: model: unknown key 'd_modle'; did you mean 'd_model'?
       7 |   d_modle: 64
         |   ^^^^^^^
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Literal, cast

from harness.errors import SpecError
from harness.spec.printable import printable, quoted

Format = Literal["text", "json", "github"]
Level = Literal["error", "warning"]
"""A warning is no mistake: what it warns of can be run."""

MOST_SHOWN = 20
_WIDEST_EXCERPT = 100


@dataclass(frozen=True)
class Issue:
    """One mistake. `line` and `column` count from 1; `where` is a dotted path, "" the root.

    `excerpt` is the whole source line and `width` how many of its characters are marked.
    """

    file: str
    line: int
    column: int
    where: str
    message: str
    excerpt: str = ""
    width: int = 1
    level: Level = "error"

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        head = f"{self.file}:{self.line}:{self.column}: {self.level}: {where}{self.message}"
        return head if not self.excerpt.strip() else f"{head}\n{self._frame()}"

    def _frame(self) -> str:
        start = self.column - 1
        # Of a very long line only the part around the mistake is shown.
        cut = max(0, start - _WIDEST_EXCERPT // 2) if len(self.excerpt) > _WIDEST_EXCERPT else 0
        shown = self.excerpt[cut : cut + _WIDEST_EXCERPT].replace("\t", " ").rstrip()
        width = max(1, min(self.width, len(shown) - (start - cut)))
        number = str(self.line).rjust(4)
        marks = " " * (start - cut) + "^" * width
        return f"{number} | {printable(shown)}\n{' ' * len(number)} | {marks}"


def in_order(issues: Iterable[Issue]) -> list[Issue]:
    """Issues by file, line and column, each once."""
    unique = dict.fromkeys(issues)
    return sorted(unique, key=lambda one: (one.file, one.line, one.column))


def spec_error(issues: Iterable[Issue]) -> SpecError:
    """A `SpecError` with all issues in order; its message is their text form."""
    ordered = in_order(issues)
    error = SpecError(cast("list[object]", ordered))
    error.args = (render(ordered, "text"),)
    return error


def render(issues: Sequence[Issue], form: Format) -> str:
    """All issues as text (the first 20), as a JSON list, or as GitHub annotations.

    Text shows `file:line:col: error: where: message` and the source line with the mistake
    marked. JSON holds every issue with the fields of `Issue`.
    """
    if form == "json":
        return json.dumps([asdict(issue) for issue in issues], indent=2, ensure_ascii=False)
    if form == "github":
        return "\n".join(_annotation(issue) for issue in issues)
    lines = [str(issue) for issue in issues[:MOST_SHOWN]]
    if len(issues) > MOST_SHOWN:
        lines.append(f"… {len(issues) - MOST_SHOWN} more")
    return "\n".join(lines)


def did_you_mean(wrong: str, names: Iterable[str]) -> str:
    """The name that is closest to a wrong one, or "" if none is close."""
    close = get_close_matches(wrong, list(names), n=1)
    return close[0] if close else ""


def unknown(what: str, wrong: str, names: Iterable[str]) -> str:
    """A sentence like "unknown key 'stps'; did you mean 'steps'?" or one that lists the names."""
    names = list(names)
    text = f"unknown {what} {quoted(wrong)}"
    if close := did_you_mean(wrong, names):
        return f"{text}; did you mean {quoted(close)}?"
    return f"{text}; {listed(names)}" if names else text


def listed(names: Sequence[str]) -> str:
    """At most eight names as "known: a, b, …"."""
    more = "" if len(names) <= 8 else f", … {len(names) - 8} more"
    return "known: " + ", ".join(printable(name) for name in names[:8]) + more


def _annotation(issue: Issue) -> str:
    place = f"file={_property(issue.file)},line={issue.line},col={issue.column}"
    where = f"{issue.where}: " if issue.where else ""
    return f"::{issue.level} {place}::{_data(where + issue.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
