"""Annotations of spec classes: words and limits of a key, and whether it is in a cell's id.

    steps: Annotated[int, Key("Steps", "Optimiser steps.", [2000], minimum=1)]

Types and defaults are those of the dataclass. JSON Schemas (`harness.spec.schema.generate`), the
builder (`harness.spec.build`) and identities (`harness.spec.identity`) are all derived from these
classes.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, dataclass, field, fields, is_dataclass, replace
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

Part = Literal["identity", "label", "content", "grid"]
"""How a field relates to a cell's id.

`identity`: part of the id, since it can change a number. `label`: only displayed. `content`: names
a file whose digest is part of the id in its place. `grid`: spans the cells of a suite; each cell's
own choice is part of its id.
"""

_LIMITS = {
    "const": "const",
    "one_of": "enum",
    "minimum": "minimum",
    "maximum": "maximum",
    "above": "exclusiveMinimum",
    "below": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "min_length": "minLength",
    "pattern": "pattern",
    "max_length": "maxLength",
    "min_items": "minItems",
    "max_items": "maxItems",
    "unique": "uniqueItems",
    "min_keys": "minProperties",
    "max_keys": "maxProperties",
}


@dataclass(frozen=True, eq=False)
class Key:
    """One key of a mapping in a spec. Nested ones are merged; the outer overrides the inner.

    `part`: defaults to that of the class. `choice`: faithfulness scores are comparable only if
    they agree in it. `changeable`: a suite may change it. `required`: a file must give it although
    the class has a default. `younger`: newer than stored ids; at its default it is in none of
    them. `absent`: None means that the key is left out, and null is refused.
    `only_for`: required with these values of `kind`, refused with all others. `by_granularity`:
    the table of granularities has its legal values. `or_name`: may also be the name or path of a
    spec file. `keys_of`: the class that lists the keys of a mapping. `message`: shown when a limit
    is violated. The others are limits of JSON Schema.
    """

    title: str = ""
    description: str = ""
    examples: Sequence[Any] = ()
    _: KW_ONLY
    part: Part | None = None
    choice: bool = False
    changeable: bool = False
    required: bool = False
    younger: bool = False
    absent: bool = False
    only_for: tuple[str, ...] = ()
    by_granularity: bool = False
    or_name: bool = False
    keys_of: type | None = None
    message: str = ""
    const: int | None = None
    one_of: Sequence[str] | None = None
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    multiple_of: int | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    min_items: int | None = None
    max_items: int | None = None
    unique: bool | None = None
    min_keys: int | None = None
    max_keys: int | None = None

    def limits(self) -> dict[str, Any]:
        """The limits that are set, under their names in JSON Schema, and the message."""
        named = {name: getattr(self, ours) for ours, name in _LIMITS.items()}
        limits = {name: value for name, value in named.items() if value is not None}
        return limits | ({"x-message": self.message} if self.message else {})


@dataclass(frozen=True, eq=False)
class About:
    """The mapping that a spec class stands for; its attribute `ABOUT`.

    `name`: that of its schema, by default the class's in snake case. `short_for`: the key that a
    value which is not a mapping is given to. `part`: default of its keys. `changes`: the class
    whose keys this one changes; words and limits come from there. `rules`: further schemas that
    must hold (`exactly_one`, `at_most_one`, or any other). `needs`: for a key, the keys required
    beside it. `min_keys`: fewest keys. `params_of`: the key that names the code whose own
    parameters its `params` are.
    """

    title: str
    description: str = ""
    _: KW_ONLY
    name: str = ""
    short_for: str = ""
    part: Part = "identity"
    changes: type | None = None
    rules: tuple[Mapping[str, Any], ...] = ()
    needs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    min_keys: int | None = None
    params_of: str = ""


@dataclass(frozen=True, eq=False)
class Kinds:
    """Annotates a union of spec classes that the key `kind` decides between.

    `kind` describes that key. `shared`: further keys that all members have and that are described
    once. `name`: of the union's schema; `file`: the schema that it stands in, if not that of the
    class that uses it. `members`: gives the classes, where a protocol is annotated instead of their
    union.
    """

    name: str
    title: str
    description: str
    kind: Key
    shared: tuple[str, ...] = ()
    file: str = ""
    members: Callable[[], Sequence[type]] | None = None


def exactly_one(*names: str) -> dict[str, Any]:
    """A rule: the mapping has exactly one of these keys."""
    one_of = [{"required": [name]} for name in names]
    return {"oneOf": one_of, "x-message": f"give exactly one of {', '.join(names)}"}


def at_least_one(*names: str) -> dict[str, Any]:
    """A rule: the mapping has one of these keys or more."""
    any_of = [{"required": [name]} for name in names]
    return {"anyOf": any_of, "x-message": f"give {' or '.join(names)}"}


def at_most_one(one: str, other: str) -> dict[str, Any]:
    """A rule: the mapping has at most one of these two keys."""
    return {"not": {"required": [one, other]}, "x-message": f"give only one of {one}, {other}"}


@dataclass(frozen=True)
class SpecField:
    """A field of a spec class: its name, type (without the outer `Annotated`), key and default.

    `kinds`: of a union of spec classes. `default` is None if the field has none.
    """

    name: str
    type: Any
    key: Key
    kinds: Kinds | None
    has_default: bool
    default: Any


@cache
def spec_fields(cls: type) -> Mapping[str, SpecField]:
    """The fields of a spec class in order, by name."""
    hints = get_type_hints(cls, include_extras=True)
    about = about_of(cls)
    outer = spec_fields(about.changes) if about and about.changes else {}
    result = {}
    for one in fields(cls):
        kind, key, kinds = unwrapped(hints[one.name])
        if one.name in outer and get_origin(hints[one.name]) is not Annotated:
            key = outer[one.name].key
        part = about.part if about and (about.changes or key.part is None) else key.part
        default = one.default if one.default_factory is MISSING else one.default_factory()
        result[one.name] = SpecField(
            one.name,
            kind,
            replace(key, part=part or "identity"),
            kinds,
            default is not MISSING,
            None if default is MISSING else default,
        )
    return result


def at_default(one: SpecField, value: Any) -> bool:
    """Whether a field is `younger` and has its default, so that records do not speak of it."""
    return one.key.younger and bool(value == one.default)


def about_of(cls: type) -> About | None:
    """The `ABOUT` of a spec class."""
    about = getattr(cls, "ABOUT", None)
    return about if isinstance(about, About) else None


def unwrapped(hint: Any) -> tuple[Any, Key, Kinds | None]:
    """A type without its outer `Annotated`, all keys in that taken together, and its kinds."""
    return _annotated(hint) if get_origin(hint) is Annotated else (hint, Key(), None)


@cache
def _annotated(hint: Any) -> tuple[Any, Key, Kinds | None]:
    """Asked for every value of a spec, and a list of words has thousands."""
    inner, *notes = get_args(hint)
    merged = Key()
    for note in notes:
        if isinstance(note, Key):
            said = {one.name: getattr(note, one.name) for one in fields(Key)}
            merged = replace(merged, **{n: v for n, v in said.items() if _is_said(v)})
    kinds = next((note for note in notes if isinstance(note, Kinds)), None)
    if kinds is not None and kinds.members is not None:
        inner = reduce(or_, kinds.members())
    return inner, merged, kinds


def _is_said(value: Any) -> bool:
    return value is not None and value is not False and value not in ("", ())


def is_spec_class(hint: Any) -> bool:
    """Whether a type is a dataclass (and so a mapping in a spec)."""
    return isinstance(hint, type) and is_dataclass(hint)


def members_of(union: Any) -> tuple[tuple[Any, ...], bool]:
    """The members of a union but None, and whether None is one; of another type itself."""
    if get_origin(union) not in (Union, types.UnionType):
        return (union,), False
    members = get_args(union)
    return tuple(one for one in members if one is not type(None)), type(None) in members


def kind_of(cls: type) -> str:
    """What `kind` is for a member of a union of spec classes."""
    return str(get_args(spec_fields(cls)["kind"].type)[0])


def plain(value: Any) -> Any:
    """A value of a spec as plain data: lists for tuples, mappings for spec classes.

    What is `absent` when it is None stands in none of them.
    """
    if is_dataclass(value) and not isinstance(value, type):
        held = {name: (one, getattr(value, name)) for name, one in spec_fields(type(value)).items()}
        return {
            name: plain(item)
            for name, (one, item) in held.items()
            if item is not None or not one.key.absent
        }
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value
