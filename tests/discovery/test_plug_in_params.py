"""The params of a plug-in's dataclass, as far as its types can be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from harness.discovery.plug_in_params import check_params, params_schema
from harness.spec.key import Key
from harness.spec.yaml.source import parse_text

if TYPE_CHECKING:
    from nowhere import Unknown


@dataclass
class Readable:
    steps: Annotated[int, Key(minimum=1)]
    names: tuple[str, ...] = ()
    thing: complex = 0j  # no type of a spec


@dataclass
class Unreadable:
    steps: Unknown
    more: list[int] = field(default_factory=list)


def mistakes(cls: type, text: str) -> list[str]:
    source = parse_text(text, Path("mine.yaml"))
    return [f"{x.line}:{x.column} {x.message}" for x in check_params(source, "mine", cls)]


def test_types_limits_names_and_missing_keys() -> None:
    assert mistakes(Readable, "params: {steps: 3, names: [a], thing: [any, thing]}") == []
    assert mistakes(Readable, "params: {steps: 0}") == ["1:17 must be at least 1, got 0"]
    assert mistakes(Readable, "params: {steps: 1, nmes: []}") == [
        "1:20 unknown key 'nmes'; did you mean 'names'?"
    ]
    assert mistakes(Readable, "params: {}") == ["1:1 missing required key 'steps'"]
    assert mistakes(Readable, "kind: mine") == ["1:1 missing required key 'params'"]


def test_types_for_type_checkers_alone_are_not_checked_but_names_are() -> None:
    assert mistakes(Unreadable, "params: {steps: [1], more: x}") == []
    assert mistakes(Unreadable, "params: {more: 1}") == ["1:1 missing required key 'steps'"]
    assert mistakes(Unreadable, "params: {steps: 1, mroe: 1}") == [
        "1:20 unknown key 'mroe'; did you mean 'more'?"
    ]
    more = params_schema("mine", Unreadable)["properties"]["params"]["properties"]["more"]
    assert "type" not in more
