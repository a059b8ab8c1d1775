"""Normalised plain data to the frozen dataclasses of `harness.spec.types`.

No second validator: the data are valid already (`harness.spec.schema`), so anything that does
not fit a class here is a bug and raises TypeError.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from harness.spec.types import (
    CompileModel,
    Data,
    FileData,
    GeneratorData,
    LoadModel,
    Model,
    ProgramData,
    TemplateData,
    TrainModel,
)

T = TypeVar("T")

MODEL_FILE_LABELS = ("spec_version", "title", "description")
"""What a model file has beyond a task's inline model: labels that change no number."""


def build(cls: type[T], data: Mapping[str, Any]) -> T:
    """An instance of the dataclass `cls` from normalised data; lists become tuples.

    A union of dataclasses is decided by `kind`. Raises TypeError if data do not fit.
    """
    hints = _hints(cast(Any, cls))
    if odd := set(data) - set(hints):
        raise TypeError(f"{cls.__name__} has no field {', '.join(sorted(odd))}")
    return cls(**{name: _value(hints[name], item) for name, item in data.items()})


def build_model(data: Mapping[str, Any]) -> Model:
    """The model of normalised inline data (as under a task's `model`)."""
    return cast(Model, _value(TrainModel | LoadModel | CompileModel, data))


def build_data(data: Mapping[str, Any]) -> Data:
    """The data of normalised plain data (as under a task's `data`)."""
    return cast(Data, _value(GeneratorData | TemplateData | FileData | ProgramData, data))


def inline_model(data: Mapping[str, Any]) -> dict[str, Any]:
    """A model file's data as it would stand inside a task."""
    return {key: value for key, value in data.items() if key not in MODEL_FILE_LABELS}


@cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _value(hint: Any, value: Any) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else _value(_member(hint, value), value)
    if origin is tuple:
        return _tuple(get_args(hint), value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        item = get_args(hint)[1]
        return {key: _value(item, each) for key, each in value.items()}
    if is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise TypeError(f"{hint.__name__} needs a mapping, not {value!r}")
        return build(hint, value)
    return _scalar(hint, value)


def _member(union: Any, value: Any) -> Any:
    """The member of a union that `value` belongs to."""
    members = [one for one in get_args(union) if one is not type(None)]
    if len(members) == 1:
        return members[0]
    for one in members:
        if isinstance(value, Mapping) and value.get("kind") in get_args(_hints(one)["kind"]):
            return one
    raise TypeError(f"{value!r} is of no kind that {union} knows")


def _tuple(hints: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if hints[-1] is Ellipsis:
        return tuple(_value(hints[0], item) for item in value)
    return tuple(_value(hint, item) for hint, item in zip(hints, value, strict=True))


def _scalar(hint: Any, value: Any) -> Any:
    if hint is Any:
        return value
    fits = value in get_args(hint) if get_origin(hint) is Literal else type(value) is hint
    if not fits:
        raise TypeError(f"{value!r} is not {hint}")
    return value
