"""Reads a generator's `params` mapping into its frozen dataclass, naming every mistake."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from harness.spec.build import DoesNotFit, Misfit, build
from harness.spec.issues import unknown

T = TypeVar("T")

Problem = tuple[str, str]  # (parameter, what is wrong); parameter "" = all of them


def read_params(cls: type[T], params: Mapping[str, Any]) -> tuple[T | None, list[Problem]]:
    """Return an instance of the dataclass `cls`, or None and what is wrong.

    All fields need defaults. A method `problems() -> list[Problem]` of `cls` adds rules of its
    own.
    """
    try:
        instance = build(cls, params)
    except DoesNotFit as error:
        return None, [_problem(cls, misfit) for misfit in error.misfits]
    own = getattr(instance, "problems", None)
    problems = own() if own else []
    return (None if problems else instance), problems


def _problem(cls: type[Any], misfit: Misfit) -> Problem:
    name, *inside = misfit.path
    if misfit.mistake == "unknown":
        names = [field.name for field in dataclasses.fields(cls)]
        return str(name), unknown("parameter", str(name), names)
    if misfit.mistake == "missing":
        return str(name), "is missing"
    item = "".join(f" (item {place + 1})" for place in inside if isinstance(place, int))
    return str(name), f"{misfit.value!r}{item} is not {misfit.wanted}"
