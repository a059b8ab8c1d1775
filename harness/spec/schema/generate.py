"""JSON Schemas made from the spec classes.

The committed files in `specs/` are what this module makes (`make schemas`; a test compares them).
Only `result.schema.json` is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

from harness.spec.data_kinds import data_classes
from harness.spec.granularity import BUILT_IN, granularity, legal_values, legal_values_of
from harness.spec.key import (
    About,
    Key,
    Kinds,
    SpecField,
    about_of,
    is_spec_class,
    kind_of,
    members_of,
    plain,
    spec_fields,
    unwrapped,
)
from harness.spec.schema.params import marked
from harness.spec.types import Evaluation, Method, Model, ModelLabels, Suite, Task
from harness.spec.types.dictionary import DictionaryLabels, DictionarySpec

Schema = dict[str, Any]
Params = Mapping[str, type]  # kind or generator -> the class of its params

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ADDRESS = "https://circuit-harness.dev/specs/"
_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def schemas(methods: Params, generators: Params) -> dict[str, Schema]:
    """All generated schemas by kind of spec.

    `methods`, `generators`: what the built-in kinds of methods and generators take as `params`.
    """
    return {
        "task": _file("task", Task, _generated(generators)),
        "model": _file_of_kinds("model", Model, ModelLabels),
        "dictionary": _file_of_kinds("dictionary", DictionarySpec, DictionaryLabels),
        "method": _file("method", Method, {Method: ("kind", methods)}),
        "suite": _file("suite", Suite, {}),
    }


def property_schema(cls: type, one: SpecField) -> tuple[Schema, Mapping[str, Schema]]:
    """The schema of one field of a class, and the definitions that it refers to.

    Raises `TypeError` for a type that no spec has.
    """
    parts = _Parts({})
    return parts._property(cls, one), parts.definitions


def _generated(generators: Params) -> dict[type, tuple[str, Params]]:
    """The classes of data that registered code makes, with the key that names that code."""
    keys = {cls: about.params_of for cls in data_classes() if (about := about_of(cls))}
    return {cls: (key, generators) for cls, key in keys.items() if key}


# ---------------------------------------------------------------- whole files
def _file(kind: str, cls: type, params: Mapping[type, tuple[str, Params]]) -> Schema:
    parts = _Parts(params)
    return _with_parts(_head(kind) | parts.mapping(cls), parts)


def _file_of_kinds(name: str, spec: Any, labelled: type) -> Schema:
    """A file holds the labels beside the keys of one member of a union."""
    parts = _Parts({})
    union, _, kinds = unwrapped(spec)
    assert kinds is not None
    parts.union(union, kinds)
    labels = parts.mapping(labelled)
    shown = {"kind": _kind_of_union(union, kinds)}
    whole = _head(name) | labels
    del whole["additionalProperties"]
    whole["required"] = [*labels["required"], "kind"]
    whole["properties"] = labels["properties"] | shown
    whole["allOf"] = parts.branches(union, whole["properties"], suffix="_file")
    return _with_parts(whole, parts)


def _head(kind: str) -> Schema:
    return {"$schema": _DIALECT, "$id": f"{_ADDRESS}{kind}.schema.json"}


def _with_parts(schema: Schema, parts: _Parts) -> Schema:
    head = ("$schema", "$id", "title", "description")
    ordered = {name: schema[name] for name in head}
    ordered |= {name: part for name, part in schema.items() if name not in head}
    return ordered | {"$defs": parts.definitions}


@dataclass
class _Parts:
    """Schemas of classes, and the definitions that they refer to."""

    params: Mapping[type, tuple[str, Params]]
    definitions: dict[str, Schema] = field(default_factory=dict)

    def mapping(self, cls: type, described: Iterable[str] = ()) -> Schema:
        """The schema of a class; `described` keys are described where it is referred to."""
        about = _about(cls)
        outside = dict.fromkeys(described, True)
        own = {n: one for n, one in spec_fields(cls).items() if n not in outside}
        variants = {name: one for name, one in own.items() if one.key.only_for}
        shown = {name: one for name, one in own.items() if name not in variants}
        required = [name for name, one in shown.items() if _is_required(one)]
        schema: Schema = {"type": "object", "title": about.title}
        if about.description:
            schema["description"] = about.description
        if required:
            schema["required"] = required
        schema["properties"] = outside | {n: self._property(cls, one) for n, one in shown.items()}
        rules = [*about.rules, *self._params_rules(cls), *_granularity_rules(cls)]
        if variants:
            schema |= self._variants(cls, list(shown), list(variants.values()))
        else:
            schema["additionalProperties"] = False
        if rules:
            schema["allOf"] = [dict(rule) for rule in rules]
        if about.needs:
            schema["dependentRequired"] = {key: list(other) for key, other in about.needs.items()}
        if about.min_keys is not None:
            schema["minProperties"] = about.min_keys
        return schema

    def _variants(self, cls: type, always: list[str], own: list[SpecField]) -> Schema:
        """`if`, `then`, `else` on `kind` for the keys that only some kinds have."""
        kinds = dict.fromkeys(kind for one in own for kind in one.key.only_for)
        described: Schema = dict.fromkeys(always, True)
        schema = _only(described, [])
        for kind in reversed(list(kinds)):
            with_kind = [one for one in own if kind in one.key.only_for]
            keys = {one.name: self._property(cls, one) for one in with_kind}
            then = _only(described | keys, list(keys))
            schema = {"if": _kind_is("kind", kind), "then": then, "else": schema}
        return schema

    def _params_rules(self, cls: type) -> Iterator[Schema]:
        key, by_kind = self.params.get(cls, ("kind", {}))
        for kind, params in by_kind.items():
            name = _about(params).name or kind
            if name not in self.definitions:
                self.definitions[name] = marked(self.mapping(params), params)
            then = {"properties": {"params": {"$ref": f"#/$defs/{name}"}}}
            yield {"if": _kind_is(key, kind), "then": then}

    # ------------------------------------------------------------ unions
    def union(self, union: Any, kinds: Kinds) -> None:
        """Define a union of classes that `kind` decides between, and its members."""
        members, _ = members_of(union)
        shared = {n: self._property(members[0], spec_fields(members[0])[n]) for n in kinds.shared}
        keys = {"kind": _kind_of_union(union, kinds)} | shared
        self.definitions[kinds.name] = {
            "title": kinds.title,
            "description": kinds.description,
            "type": "object",
            "required": ["kind"],
            "properties": keys,
            "allOf": self.branches(union, keys),
        }

    def branches(self, union: Any, described: Mapping[str, Any], suffix: str = "") -> list[Schema]:
        """Conditions on `kind` that lead to the members, which are defined."""
        result = []
        for member in members_of(union)[0]:
            name = _name(member) + suffix
            self.definitions[name] = self.mapping(member, described)
            then = {"$ref": f"#/$defs/{name}"}
            result.append({"if": _kind_is("kind", kind_of(member)), "then": then})
        return result

    # ------------------------------------------------------------ one key
    def _property(self, cls: type, one: SpecField) -> Schema:
        words = _words(one.key)
        text = words.get("description", "")
        if cls in self.params and "{kinds}" in text:
            names = ", ".join(f"`{name}`" for name in self.params[cls][1])
            words["description"] = text.replace("{kinds}", names)
        by_granularity = cls is Evaluation and one.key.by_granularity
        if one.has_default and not (one.key.absent or one.key.required or by_granularity):
            words = _with_default(words, one.default)
        schema = self._typed(cls, one)
        first = {name: schema.pop(name) for name in ("$ref", "type") if name in schema}
        return first | words | schema

    def _typed(self, cls: type, one: SpecField) -> Schema:
        if one.key.by_granularity:  # the legal values stand in `allOf`
            names = legal_values_of(one.name)
            return {} if cls is Evaluation else {"enum": [*names, None]}
        if one.name == "granularity":
            return {"enum": [*BUILT_IN, *(() if cls is Evaluation else (None,))]}
        if one.kinds is not None:
            return self._union_of(one, one.kinds)
        if one.key.keys_of is not None:
            return self._value(one.key.keys_of, one.key)
        # What is left out has no null.
        kind = _without_none(one.type) if one.key.absent else one.type
        return self._value(kind, one.key)

    def _union_of(self, one: SpecField, kinds: Kinds) -> Schema:
        if not kinds.file:
            self.union(one.type, kinds)
        reference = {"$ref": f"{kinds.file}#/$defs/{kinds.name}"}
        if not one.key.or_name:
            return reference
        whole: Schema = {"type": ["string", "object"], "minLength": 1}
        return whole | {"if": {"type": "object"}, "then": reference}

    def _value(self, hint: Any, outer: Key) -> Schema:
        """The schema of a type under the limits of the annotations around it."""
        hint, inner, _ = unwrapped(hint)
        members, nullable = members_of(hint)
        if nullable:
            return _or_null(self._value(_without_none(hint), outer))
        typed = self._either(members) if len(members) > 1 else self._plain(hint)
        schema = typed | inner.limits() | outer.limits()
        if "const" in schema or "enum" in schema:
            schema.pop("type", None)
        return schema

    def _plain(self, hint: Any) -> Schema:
        if hint is Any:
            return {}
        if hint in _TYPES:
            return {"type": _TYPES[hint]}
        if is_spec_class(hint):
            return {"$ref": f"#/$defs/{self._defined(hint)}"}
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is Literal:
            return {"enum": list(arguments)}
        if origin is tuple:
            many = {"type": "array", "items": self._value(arguments[0], Key())}
            fixed = {"minItems": len(arguments), "maxItems": len(arguments)}
            return many if arguments[-1] is Ellipsis else many | fixed
        if isinstance(origin, type) and issubclass(origin, Mapping):
            values = self._value(arguments[1], Key())
            names = self._value(arguments[0], Key())
            schema: Schema = {"type": "object"}
            schema |= {"additionalProperties": values} if values else {}
            names.pop("type", None)
            return schema | ({"propertyNames": names} if names else {})
        raise TypeError(f"no schema for the type {hint}")

    def _either(self, members: tuple[Any, ...]) -> Schema:
        """Values of several plain types; the limits of each concern that type alone."""
        parts = [self._value(one, Key()) for one in members]
        types = [part.pop("type") for part in parts]
        return {"type": types} | {name: one for part in parts for name, one in part.items()}

    def _defined(self, cls: type) -> str:
        """The name of a class's definition, which is added if it does not exist."""
        name, about = _name(cls), _about(cls)
        if name in self.definitions:
            return name
        self.definitions[name] = {}  # holds the place: definitions stand in order of use
        if not about.short_for:
            self.definitions[name] = self.mapping(cls)
            return name
        long = f"{name}_long"
        self.definitions[long] = self.mapping(cls)
        self.definitions[long].pop("description", None)
        short = spec_fields(cls)[about.short_for]
        value = self._value(_without_none(short.type), short.key)
        self.definitions[name] = {
            "title": about.title,
            "description": about.description,
            **value,
            "type": [value["type"], "object"],
            "x-short-for": about.short_for,
            "if": {"type": "object"},
            "then": {"$ref": f"#/$defs/{long}"},
        }
        return name


# ---------------------------------------------------------------- small parts
def _about(cls: type) -> About:
    about = about_of(cls)
    if about is None:
        raise TypeError(f"{cls.__name__} has no ABOUT")
    return about


def _name(cls: type) -> str:
    """The name of a class's definition: `ProgramStep` is `program_step`."""
    return _about(cls).name or re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


def _is_required(one: SpecField) -> bool:
    return one.key.required or not one.has_default


def _words(key: Key) -> Schema:
    words: Schema = {"title": key.title} if key.title else {}
    if key.description:
        words["description"] = key.description
    return words | ({"examples": plain(list(key.examples))} if key.examples else {})


def _with_default(words: Schema, default: Any) -> Schema:
    """The default goes before the examples; that of a mapping is what it does not leave out."""
    value = {} if is_spec_class(type(default)) and default == type(default)() else plain(default)
    head = {name: words[name] for name in ("title", "description") if name in words}
    return head | {"default": value} | words


def _kind_of_union(union: Any, kinds: Kinds) -> Schema:
    return _words(kinds.kind) | {"enum": [kind_of(member) for member in members_of(union)[0]]}


def _kind_is(key: str, kind: str) -> Schema:
    return {"properties": {key: {"const": kind}}, "required": [key]}


def _only(keys: Schema, required: list[str]) -> Schema:
    """A mapping with these keys and no others."""
    schema: Schema = {"type": "object"} | ({"required": required} if required else {})
    return schema | {"properties": keys, "additionalProperties": False}


def _without_none(hint: Any) -> Any:
    members, nullable = members_of(hint)
    return members[0] if nullable and len(members) == 1 else hint


def _or_null(schema: Schema) -> Schema:
    if "$ref" in schema:
        reference = {"$ref": schema.pop("$ref")}
        return {"type": ["object", "null"], **schema, "if": {"type": "object"}, "then": reference}
    if "enum" in schema:
        return schema | {"enum": [*schema["enum"], None]}
    return schema | {"type": [schema["type"], "null"]}


def _granularity_rules(cls: type) -> Iterator[Schema]:
    if cls is Evaluation:
        yield from (legal_values(granularity(name)) for name in BUILT_IN)
