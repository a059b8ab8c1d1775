"""The three forms in which mistakes are shown."""

from __future__ import annotations

import json
from dataclasses import replace

from harness.spec.issues import Issue, in_order, render, spec_error

ONE = Issue("a,b:c.yaml", 3, 5, "model", "50% wrong\nreally", "  k: value", 5)
TWO = Issue("z.yaml", 1, 1, "", "the file is empty")


def test_text() -> None:
    assert render([TWO], "text") == "z.yaml:1:1: error: the file is empty"
    assert render([], "text") == ""


def test_text_is_capped_and_counts_the_rest() -> None:
    many = [Issue("z.yaml", line, 1, "", f"mistake {line}") for line in range(1, 26)]
    lines = render(many, "text").splitlines()
    assert len(lines) == 21
    assert lines[-2:] == ["z.yaml:20:1: error: mistake 20", "… 5 more"]
    assert len(json.loads(render(many, "json"))) == 25


def test_json_has_every_field() -> None:
    assert json.loads(render([ONE], "json")) == [
        {
            "file": "a,b:c.yaml",
            "line": 3,
            "column": 5,
            "where": "model",
            "message": "50% wrong\nreally",
            "excerpt": "  k: value",
            "width": 5,
            "level": "error",
        }
    ]


def test_github_escapes_its_separators() -> None:
    assert render([ONE], "github") == (
        "::error file=a%2Cb%3Ac.yaml,line=3,col=5::model: 50%25 wrong%0Areally"
    )


def test_a_warning_is_called_one() -> None:
    warning = replace(ONE, level="warning")
    assert str(warning).startswith("a,b:c.yaml:3:5: warning: model: 50% wrong")
    assert render([warning], "github").startswith("::warning file=")


def test_a_long_line_is_cut_around_the_mistake() -> None:
    text = "a" * 300 + "HERE" + "b" * 300
    frame = str(Issue("z.yaml", 1, 301, "", "bad", text, 4)).splitlines()[1:]
    start = frame[1].index("^")
    assert frame[0][start : start + 4] == "HERE"
    assert frame[1].count("^") == 4
    assert len(frame[0]) < 120


def test_marks_stay_below_tabs_and_never_pass_the_line() -> None:
    frame = str(Issue("z.yaml", 1, 4, "", "bad", "k:\tvalue", 99)).splitlines()[1:]
    assert frame == ["   1 | k: value", "     |    ^^^^^"]


def test_terminal_controls_never_reach_the_terminal() -> None:
    shown = str(Issue("z.yaml", 1, 1, "", "bad", "a\x1b[31m\u202eb"))
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_order_and_repeats() -> None:
    late, early = Issue("a", 9, 1, "", "x"), Issue("a", 2, 5, "", "y")
    assert in_order([late, early, late]) == [early, late]
    error = spec_error([late, early])
    assert error.issues == [early, late]
    assert str(error) == "a:2:5: error: y\na:9:1: error: x"
