"""CSV for spreadsheets: no text of a spec or a result is run as a formula there."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.reports.text import csv_text


def cell(value: object) -> str:
    text = csv_text(["name"], [{"name": value}])
    ((header,), (shown,)) = list(csv.reader(io.StringIO(text)))
    assert header == "name"
    return shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("=1+2", "'=1+2"),
        ('=HYPERLINK("http://x","y")', '\'=HYPERLINK("http://x","y")'),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "'  =1"),
        ("\xa0=1", "'\xa0=1"),
        ("\t=1", "\\t=1"),  # control characters are escaped, as everywhere
        ("\r=1", "\\r=1"),
        ("eap_ig", "eap_ig"),
        ("a=1", "a=1"),
    ],
)
def test_formulas_are_texts(text: str, shown: str) -> None:
    assert cell(text) == shown


def test_numbers_stay_numbers() -> None:
    assert [cell(value) for value in (-1.5, -3, 1e-7, True, None)] == [
        "-1.5",
        "-3",
        "1e-07",
        "true",
        "",
    ]


def test_columns_are_cells_too() -> None:
    assert csv_text(["=1", "a"], []) == "'=1,a\n"


@given(st.text(max_size=8))
def test_no_cell_starts_a_formula(text: str) -> None:
    assert not cell(text or "x").lstrip().startswith(("=", "+", "-", "@"))
