"""The JSON Schemas of all specs: loading them, and checking a file against one.

The schemas are the public contract: editors and other languages use the same files. Besides the
standard keywords they carry two annotations of ours: `x-message` is what a user is told when
that part of the schema fails, and `x-short-for` names the key that a value written short stands
for (`harness.spec.build`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, get_args

from harness.spec.issues import Issue, in_order
from harness.spec.rules import check_rules
from harness.spec.schema_messages import issues_of
from harness.spec.shipped import shipped_root
from harness.spec.yaml.source import Source

__all__ = ["KINDS", "SpecKind", "check", "load_schema", "normalise", "validator"]

SpecKind = Literal["task", "model", "method", "suite", "result"]
KINDS: tuple[SpecKind, ...] = get_args(SpecKind)


@cache
def load_schema(kind: SpecKind) -> dict[str, Any]:
    """The schema of a kind of spec; shared, so not to be changed."""
    path = shipped_root() / "specs" / f"{kind}.schema.json"
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


@cache
def validator(kind: SpecKind) -> Any:
    """A `jsonschema` validator that also knows the schemas which this one refers to."""
    # Imported here: this takes longer than reading and checking all shipped specs.
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry, Resource

    schemas = [load_schema(name) for name in KINDS]
    resources = [(schema["$id"], Resource.from_contents(schema)) for schema in schemas]
    registry: Any = Registry().with_resources(resources)
    extend: Any = validators.extend
    checker = extend(Draft202012Validator, {"uniqueItems": _unique_items})
    return checker(load_schema(kind), registry=registry)


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
    found = [*issues_of(validator(kind), source), *check_rules(source, kind)]
    # A value that YAML could not read is null in the data; that is not a second mistake.
    broken = {(fault.line, fault.column) for fault in source.faults}
    fresh = [issue for issue in found if (issue.line, issue.column) not in broken]
    return in_order([*source.faults, *fresh])


def normalise(data: Any, kind: SpecKind) -> Any:
    """The spec with every default filled in, short forms written out, numbers of their type.

    The only place where defaults are applied. Expects valid data, leaves it unchanged, and is
    idempotent.
    """
    from harness.spec.build import completed  # reading the spec classes takes a while

    return completed(data, kind)
