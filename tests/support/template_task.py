"""An IOI task as a template, shared by the tests of template data."""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.datasets.template.spec import AnswerRule, Template, TemplateData, WordList

NAMES = ("Ann", "Bob", "Cy", "Dan", "Eve", "Flo", "Gus", "Hal")
PLACES = ("bar", "inn", "zoo")


def ioi(**changes: Any) -> TemplateData:
    data = TemplateData(
        templates=(
            Template(text="When {X} and {Y} went to the {PLACE}, {S2} gave a drink to"),
            Template(text="{X} met {Y}. Then {S2} smiled at"),
            Template(text="Today {X} saw {Y} and {S2} gave a drink to", split="new_frames"),
        ),
        slots={"IO": "names", "S": "names", "S2": "S", "C": "names", "PLACE": "places"},
        lists={"names": WordList(words=NAMES), "places": WordList(words=PLACES)},
        good=AnswerRule(slot="IO"),
        bad=AnswerRule(slot="S"),
        corruptions={"abc": {"S2": "C"}, "swap": {"S2": "IO"}, "fixed": {"PLACE": "=moon"}},
        corruption="abc",
        aliases=({"X": "IO", "Y": "S"}, {"X": "S", "Y": "IO"}),
        constraints=("distinct(IO, S, C)",),
    )
    return dataclasses.replace(data, **changes)
