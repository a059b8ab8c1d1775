"""Fills in what a valid spec leaves out, driven by its schema.

Defaults are written once, in the schemas, where editors and readers see them. This module
follows `$ref`, `allOf` and `if`/`then`, so a default may depend on a `kind`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]
Load = Callable[[Any], dict[str, Any]]  # kind -> schema

_SUFFIX = ".schema.json"


@dataclass(frozen=True)
class _At:
    """A part of a schema, and the whole schema that its `#/…` references mean."""

    part: Schema
    whole: Schema
    load: Load


def complete(data: Any, schema: Schema, load: Load) -> Any:
    """`data` with defaults filled in, short forms written out and numbers of the schema's type."""
    return _complete(data, [_At(schema, schema, load)])


def _complete(value: Any, given: list[_At]) -> Any:
    schemas = [each for one in given for each in _applying(value, one)]
    long = _long_form(value, schemas)
    if long is not value:
        return _complete(long, given)
    if isinstance(value, Mapping):
        return _complete_mapping(value, schemas)
    if isinstance(value, list):
        return _complete_list(value, schemas)
    return _number(value, schemas)


def _applying(value: Any, at: _At) -> Iterator[_At]:
    """The schema and all it refers to that has a say about `value`."""
    yield at
    part = at.part
    if "$ref" in part:
        yield from _applying(value, _target(part["$ref"], at))
    for each in part.get("allOf", ()):
        yield from _applying(value, _At(each, at.whole, at.load))
    if "if" in part:
        branch = part.get("then" if _holds(part["if"], value) else "else")
        if branch is not None:
            yield from _applying(value, _At(branch, at.whole, at.load))


def _target(reference: str, at: _At) -> _At:
    file, _, pointer = reference.partition("#")
    whole = at.load(file.removesuffix(_SUFFIX)) if file else at.whole
    part: Any = whole
    for name in pointer.split("/")[1:]:
        part = part[name]
    return _At(part, whole, at.load)


def _holds(condition: Schema, value: Any) -> bool:
    from jsonschema import Draft202012Validator

    return bool(Draft202012Validator(dict(condition)).is_valid(value))


def _long_form(value: Any, schemas: list[_At]) -> Any:
    if isinstance(value, Mapping):
        return value
    for at in schemas:
        if name := at.part.get("x-short-for"):
            return {name: value}
    return value


def _complete_mapping(value: Mapping[str, Any], schemas: list[_At]) -> dict[str, Any]:
    known: dict[str, list[_At]] = {}
    for at in schemas:
        for name, part in at.part.get("properties", {}).items():
            parts = known.setdefault(name, [])
            if isinstance(part, Mapping):  # `true` only says that the key is allowed
                parts.append(_At(part, at.whole, at.load))
    result: dict[str, Any] = {}
    for name, parts in known.items():
        if name in value:
            result[name] = _complete(value[name], parts)
        else:
            defaults = [at.part["default"] for at in parts if "default" in at.part]
            if defaults:
                result[name] = _complete(defaults[0], parts)
    others = [at for at in schemas if isinstance(at.part.get("additionalProperties"), Mapping)]
    rest = [_At(at.part["additionalProperties"], at.whole, at.load) for at in others]
    result |= {name: _complete(item, rest) for name, item in value.items() if name not in known}
    return result


def _complete_list(value: list[Any], schemas: list[_At]) -> list[Any]:
    items = [
        _At(at.part["items"], at.whole, at.load)
        for at in schemas
        if isinstance(at.part.get("items"), Mapping)
    ]
    return [_complete(item, items) for item in value]


def _number(value: Any, schemas: list[_At]) -> Any:
    """`1e3` is the integer 1000 where integers are wanted; 1 is 1.0 where numbers are."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    types = [at.part["type"] for at in schemas if "type" in at.part]
    wanted = {name for one in types for name in ([one] if isinstance(one, str) else one)}
    if "integer" in wanted and isinstance(value, float) and value.is_integer():
        return int(value)
    if "number" in wanted:
        return float(value) + 0.0  # turns -0.0 into 0.0
    return value
