"""Escape text for output: names from specs and data may contain anything.

Control characters could drive a terminal, marks of writing direction could make one name look
like another, and table or HTML syntax could break a page.
"""

from __future__ import annotations

import csv
import html
import io
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal

from tabulate import tabulate

from harness.spec.printable import printable

Format = Literal["github", "latex", "csv", "json", "html"]
FORMATS: tuple[Format, ...] = ("github", "latex", "csv", "json", "html")

_MARKDOWN = str.maketrans(
    {c: "\\" + c for c in "\\|`*[]"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
)
_FORMULA = ("=", "+", "-", "@")
_LATEX = str.maketrans(
    {c: "\\" + c for c in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "±": r"$\pm$",
        "≈": r"$\approx$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
        "·": r"$\cdot$",
        "–": "--",
        "†": r"$\dagger$",
        "−": "$-$",
    }
)


def markdown(text: str) -> str:
    """Text for a Markdown page or table cell."""
    return printable(text).translate(_MARKDOWN)


def latex(text: str) -> str:
    """Text for LaTeX, signs included."""
    return printable(text).translate(_LATEX)


def hypertext(text: str) -> str:
    """Text for HTML, in element content or attributes."""
    return html.escape(printable(text), quote=True)


def grid(
    headers: Sequence[str],
    lines: Sequence[Sequence[str]],
    form: Format,
    left: Sequence[int] | None = None,
    *,
    tight: bool = False,
) -> str:
    """A table of plain texts in one of the formats for people; the texts are escaped.

    `left` are the columns aligned to the left (default: all); the others hold numbers. `tight`:
    Markdown with columns no wider than what they hold.
    """
    columns = range(len(headers))
    align = ["left" if left is None or index in left else "right" for index in columns]
    if form == "html":
        return _html_grid(headers, lines, align)
    if tight and form == "github":
        return _tight_grid(headers, lines, align)
    escape, name = (latex, "latex_raw") if form == "latex" else (markdown, "github")
    return tabulate(
        [[escape(text) for text in line] for line in lines],
        headers=[escape(text) for text in headers],
        tablefmt=name,
        disable_numparse=True,
        colalign=align if lines else None,
    )


def _tight_grid(
    headers: Sequence[str], lines: Sequence[Sequence[str]], align: Sequence[str]
) -> str:
    rows = [[markdown(text) for text in line] for line in (headers, *lines)]
    widths = [max(map(columns_wide, column)) for column in zip(*rows, strict=True)]

    def field(text: str, side: str, width: int) -> str:
        space = " " * (width - columns_wide(text))
        return space + text if side == "right" else text + space

    def row(line: Sequence[str]) -> str:
        return f"| {' | '.join(map(field, line, align, widths))} |"

    rules = "|".join(
        "-" * (width + 1) + ("-" if side == "left" else ":")
        for side, width in zip(align, widths, strict=True)
    )
    return "\n".join([row(rows[0]), f"|{rules}|", *map(row, rows[1:])])


def _html_grid(headers: Sequence[str], lines: Sequence[Sequence[str]], align: Sequence[str]) -> str:
    def row(line: Sequence[str]) -> str:
        return "".join(
            f'<td style="text-align: {side}">{hypertext(text)}</td>'
            for text, side in zip(line, align, strict=True)
        )

    head = "".join(f'<th scope="col">{hypertext(text)}</th>' for text in headers)
    body = "\n".join(f"<tr>{row(line)}</tr>" for line in lines)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def csv_text(headers: Sequence[str], records: Sequence[Mapping[str, object]]) -> str:
    """CSV with full precision; null is an empty field.

    A text that a spreadsheet would run as a formula begins with an apostrophe.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_csv_field(name) for name in headers])
    for record in records:
        writer.writerow([_csv_field(record.get(name)) for name in headers])
    return buffer.getvalue()


def _csv_field(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _no_formula(printable(value)) if isinstance(value, str) else repr(value)


def _no_formula(text: str) -> str:
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def percent(share: float) -> str:
    """A share with one digit: `12.5 %`."""
    return f"{100 * share:.1f} %"


def number(value: float | None, digits: int) -> str:
    """A number with fixed digits after the point; empty where it does not apply."""
    return "" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # never -0.000


def plus_minus(
    value: float | None, half_width: float | None, digits: int = 3, *, compact: bool = False
) -> str:
    """`0.123 ±0.004`: half the width of the 95 % interval follows the sign.

    `compact` takes no more room than needed: `0.123 ±.004`, `10.18 ±.21`.
    """
    if compact and value is not None:
        digits -= len(str(int(abs(value)))) - 1
    digits = max(digits, 0)
    if value is None or half_width is None:
        return number(value, digits)
    half = number(half_width, digits)
    return f"{number(value, digits)} ±{half.removeprefix('0') if compact and digits else half}"


def columns_wide(text: str) -> int:
    """Columns of a terminal that a text takes: wide characters of East Asian scripts take two."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def elided(text: str, most: int) -> str:
    """The text, or its beginning and end with … between, in at most that many characters."""
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def wrapped(text: str, width: int | None) -> str:
    """A paragraph in lines of at most this width; None leaves it one line."""
    if width is None:
        return text
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
