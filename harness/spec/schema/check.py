"""The JSON Schemas of all specs: loading them, and checking a file against one.

The schemas are the public contract: editors and other languages use the same files. All but that
of results are generated (`harness.spec.schema.generate`). Besides the standard keywords they have
two of ours: `x-message` is shown when that part of the schema fails, and `x-short-for` names the
key that a value written short is given to (`harness.spec.build`).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, get_args

from harness.spec.granularity import (
    BUILT_IN,
    BY_GRANULARITY,
    granularities,
    legal_values,
    legal_values_of,
    working,
)
from harness.spec.issues import Issue, in_order
from harness.spec.rules import check_rules
from harness.spec.schema.messages import issues_of
from harness.spec.shipped import shipped_root
from harness.spec.yaml.source import Source

__all__ = ["KINDS", "SpecKind", "check", "load_schema", "validator"]

SpecKind = Literal["task", "model", "dictionary", "method", "suite", "result"]
KINDS: tuple[SpecKind, ...] = get_args(SpecKind)


@cache
def load_schema(kind: SpecKind) -> dict[str, Any]:
    """The schema of a kind of spec; shared, so not to be changed."""
    path = shipped_root() / "specs" / f"{kind}.schema.json"
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


@cache
def validator(kind: SpecKind) -> Any:
    """A `jsonschema` validator of the committed schema, with those that it refers to."""
    return _validator(kind, {name: load_schema(name) for name in KINDS})


def _validator(kind: SpecKind, schemas: Mapping[SpecKind, dict[str, Any]]) -> Any:
    return _checker(schemas[kind], list(schemas.values()))


def _checker(schema: dict[str, Any], others: list[dict[str, Any]]) -> Any:
    # Imported here: this takes longer than reading and checking all shipped specs.
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry, Resource

    resources = [(one["$id"], Resource.from_contents(one)) for one in others]
    registry: Any = Registry().with_resources(resources)
    extend: Any = validators.extend
    checker = extend(Draft202012Validator, {"uniqueItems": _unique_items})
    return checker(schema, registry=registry)


def check_against(source: Source, schema: dict[str, Any]) -> list[Issue]:
    """All mistakes of a file by a schema that stands for itself, such as one of a plug-in."""
    return in_order(issues_of(_checker(schema, []), source))


def _with_plug_ins(kind: SpecKind) -> Any:
    """A validator that also knows the granularities of installed packages."""
    schemas = {name: load_schema(name) for name in KINDS}
    schemas[kind] = copy.deepcopy(schemas[kind])
    parts = schemas[kind]["$defs"]
    names = granularities()
    if kind == "task":
        parts["evaluation"]["properties"]["granularity"]["enum"] = list(names)
        parts["evaluation"]["allOf"] = [legal_values(info) for info in working(names)]
    if kind == "suite":
        changes = parts["evaluation_change"]["properties"]
        changes["granularity"]["enum"] = [*names, None]
        for name in set(changes) & set(BY_GRANULARITY):
            changes[name]["enum"] = [*legal_values_of(name, names), None]
    return _validator(kind, schemas)


def _unique_items(validator: Any, wanted: bool, items: Any, _schema: Any) -> Iterator[Any]:
    """`uniqueItems` that names the repeated item, in linear time."""
    from jsonschema import ValidationError

    if not wanted or not validator.is_type(items, "array"):
        return
    seen = set()
    for index, item in enumerate(items):
        # 1 and 1.0 are the same number to JSON Schema.
        same = int(item) if isinstance(item, float) and item.is_integer() else item
        key = json.dumps(same, sort_keys=True)
        if key in seen:
            yield ValidationError("listed twice", path=[index], instance=item)
        seen.add(key)


def check(source: Source, kind: SpecKind) -> list[Issue]:
    """All mistakes that the file itself shows: of YAML, of the schema, and across fields."""
    if not source.positions:  # nothing could be read
        return list(source.faults)
    issues = list(issues_of(validator(kind), source))
    if issues and kind in ("task", "suite") and granularities() != tuple(BUILT_IN):
        # Looking for installed packages takes a while, so only what is not built in asks for them.
        issues = list(issues_of(_with_plug_ins(kind), source))
    issues += check_rules(source, kind)
    # A value that YAML could not read is null in the data; that is not a second mistake.
    broken = {(fault.line, fault.column) for fault in source.faults}
    fresh = [issue for issue in issues if (issue.line, issue.column) not in broken]
    return in_order([*source.faults, *fresh])
