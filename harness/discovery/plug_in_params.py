"""The params of a package's method, checked at line and column as those of built-in ones are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any

from harness.spec.key import Key, SpecField, spec_fields
from harness.spec.schema import check_against
from harness.spec.schema.generate import Schema, property_schema

if TYPE_CHECKING:
    from harness.spec.issues import Issue
    from harness.spec.yaml.source import Source


def check_params(source: Source, kind: str, cls: type) -> list[Issue]:
    """What the params of a method's spec lack to be the fields of a plug-in's dataclass."""
    return check_against(source, params_schema(kind, cls))


def params_schema(kind: str, cls: type) -> Schema:
    """A schema of method specs whose `params` are the fields of a plug-in's dataclass.

    Fields of types that no spec has are not checked, and neither are types that cannot be read.
    """
    keys: Schema = {}
    definitions: Schema = {}
    own = _fields(cls)
    for name, one in own.items():
        try:
            keys[name], more = property_schema(cls, one)
        except TypeError:
            keys[name], more = {}, {}
        definitions |= more
    params = {
        "title": f"Parameters of {kind}",
        "type": "object",
        "properties": keys,
        "additionalProperties": False,
    }
    whole: Schema = {"$id": "params", "type": "object", "$defs": definitions}
    if required := [name for name, one in own.items() if not one.has_default]:
        params["required"] = required
        whole["required"] = ["params"]
    return {**whole, "properties": {"params": params}}


def _fields(cls: type) -> Mapping[str, SpecField]:
    try:
        return spec_fields(cls)
    except (NameError, TypeError):  # a type that is imported for type checkers alone
        own: list[Field[Any]] = [one for one in fields(cls) if one.init]
        return {
            one.name: SpecField(one.name, Any, Key(), None, _optional(one), None) for one in own
        }


def _optional(one: Field[Any]) -> bool:
    return one.default is not MISSING or one.default_factory is not MISSING
