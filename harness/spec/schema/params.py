"""Fills in the defaults of `params` of built-in methods and generators, as the schemas say.

The classes of params live beside the code that they belong to, often in higher layers; the
generated schemas (`harness.spec.schema.generate`) have their defaults and types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from harness.spec.key import spec_fields
from harness.spec.schema import load_schema

Schema = Mapping[str, Any]


def completed_params(
    spec: Literal["task", "method"], kind: str, params: Mapping[str, Any]
) -> dict[str, Any]:
    """Valid params with defaults and the types of their numbers; a plug-in's stay as they are.

    Those that are younger than stored ids are left out at their default, as keys of specs are.
    `kind`: the method's or, of a task, the generator's name.
    """
    schema = _schema(spec, kind)
    if schema is None:
        return dict(params)
    keys = schema["properties"].items()
    completed = {name: _typed(params.get(name, one["default"]), one) for name, one in keys}
    return {
        name: value
        for name, value in completed.items()
        if not _left_out(schema["properties"][name], value)
    }


def _left_out(schema: Schema, value: Any) -> bool:
    """Whether a key is younger than stored ids and has its default."""
    return bool(schema.get("x-younger") and value == schema["default"])


def _schema(spec: Literal["task", "method"], kind: str) -> Schema | None:
    whole = load_schema(spec)
    part = whole if spec == "method" else whole["$defs"]["generator_data"]
    for branch in part["allOf"]:
        if kind in (one["const"] for one in branch["if"]["properties"].values()):
            name: str = branch["then"]["properties"]["params"]["$ref"]
            schema: Schema = whole["$defs"][name.removeprefix("#/$defs/")]
            return schema
    return None


def _typed(value: Any, schema: Schema) -> Any:
    """`1e3` is the integer 1000 where integers are wanted; 1 is 1.0 where numbers are."""
    if isinstance(value, list):
        return [_typed(one, schema["items"]) for one in value]
    wanted = schema.get("type", ())
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if "number" in wanted:
            return float(value) + 0.0  # turns -0.0 into 0.0
        if "integer" in wanted:
            return int(value)
    return value


def marked(mapping: dict[str, Any], params: type) -> dict[str, Any]:
    """The schema of a class of params in which `x-younger` marks keys that are younger than ids."""
    for name, one in spec_fields(params).items():
        if one.key.younger:
            mapping["properties"][name]["x-younger"] = True
    return mapping
