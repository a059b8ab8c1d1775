"""Reads a generator's `params` mapping into its frozen dataclass, naming every mistake."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from harness.spec.issues import unknown

T = TypeVar("T")

Problem = tuple[str, str]  # (parameter, what is wrong); parameter "" = all of them


def read_params(cls: type[T], params: Mapping[str, Any]) -> tuple[T | None, list[Problem]]:
    """Return an instance of the dataclass `cls`, or None and what is wrong.

    Types understood: bool, int, float, str, Literal and tuple[X, ...]; all fields need
    defaults. A method `problems() -> list[Problem]` of `cls` adds rules of its own.
    """
    hints = typing.get_type_hints(cls)
    problems = [(name, unknown("parameter", name, hints)) for name in params if name not in hints]
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name not in params:
            continue
        wanted = hints[field.name]
        value = params[field.name]
        if _fits(value, wanted):
            values[field.name] = tuple(value) if get_origin(wanted) is tuple else value
        else:
            problems.append((field.name, f"{value!r} is not {_words(wanted)}"))
    if problems:
        return None, problems
    instance = cls(**values)
    own = getattr(instance, "problems", None)
    problems = own() if own else []
    return (None if problems else instance), problems


def _fits(value: Any, wanted: Any) -> bool:
    origin = get_origin(wanted)
    if origin is tuple:
        item = get_args(wanted)[0]
        return isinstance(value, list | tuple) and all(_fits(one, item) for one in value)
    if origin is Literal:
        return value in get_args(wanted)
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, wanted)


def _words(wanted: Any) -> str:
    origin = get_origin(wanted)
    if origin is tuple:
        return f"a list, each item {_words(get_args(wanted)[0])}"
    if origin is Literal:
        return "one of " + ", ".join(str(one) for one in get_args(wanted))
    if isinstance(wanted, types.UnionType):
        return str(wanted)
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}.get(
        wanted, str(wanted)
    )
