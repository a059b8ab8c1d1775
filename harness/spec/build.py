"""Builds frozen dataclasses from plain data: specs, params of generators, model configurations.

Fills in defaults, expands short forms, and gives numbers the type of their field. Specs are
validated first (`harness.spec.schema`), so a misfit in one is a bug; other readers turn misfits
into messages for their users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from harness.spec.granularity import DEFAULT, granularity
from harness.spec.key import (
    SpecField,
    about_of,
    is_spec_class,
    kind_of,
    members_of,
    plain,
    spec_fields,
    unwrapped,
)
from harness.spec.schema.params import completed_params
from harness.spec.types import Data, Evaluation, Method, Model, ModelLabels, Suite, Task
from harness.spec.types.dictionary import DictionaryLabels, DictionarySpec

T = TypeVar("T")
Path = tuple[str | int, ...]

MODEL_FILE_LABELS = tuple(name for name in spec_fields(ModelLabels) if name != "name")
"""What a model file has beyond a task's inline model: labels that change no number."""


@dataclass(frozen=True)
class Misfit:
    """Data that does not fit: its place, its value, and what is expected there.

    `mistake`: the key at the end of `path` is `unknown` or `missing`, or its value is `wrong`.
    """

    path: Path
    mistake: Literal["unknown", "missing", "wrong"]
    value: Any = None
    wanted: str = ""

    def __str__(self) -> str:
        place = ".".join(map(str, self.path))
        if self.mistake == "wrong":
            return f"{place} is {self.value!r}, not {self.wanted}"
        return f"{place} is {self.mistake}"


class DoesNotFit(TypeError):
    """All misfits of data that cannot become an instance of a class."""

    def __init__(self, cls: type, misfits: list[Misfit]) -> None:
        super().__init__(f"not a {cls.__name__}: {'; '.join(map(str, misfits))}")
        self.misfits = misfits


def build(cls: type[T], data: Any) -> T:
    """An instance of a dataclass from plain data. Raises `DoesNotFit` with all misfits."""
    return cast(T, _build(cls, cls, data))


def build_model(data: Mapping[str, Any]) -> Model:
    """The model of inline data (as under a task's `model`)."""
    return cast(Model, _build(ModelLabels, Model, data))


def build_dictionary(data: Mapping[str, Any]) -> DictionarySpec:
    """The dictionaries of a dictionary file's data."""
    own = {key: value for key, value in data.items() if key not in spec_fields(DictionaryLabels)}
    return cast(DictionarySpec, _build(DictionaryLabels, DictionarySpec, own))


def build_data(data: Mapping[str, Any]) -> Data:
    """The data of plain data (as under a task's `data`)."""
    return cast(Data, _build(Task, Data, data))


def inline_model(data: Mapping[str, Any]) -> dict[str, Any]:
    """A model file's data in the form that a task would contain."""
    return {key: value for key, value in data.items() if key not in MODEL_FILE_LABELS}


def normalise(data: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A spec file's data with every default filled in, short forms written out, numbers typed.

    The only place where defaults are applied. Expects valid data, leaves it unchanged, and is
    idempotent.
    """
    if kind == "model":
        labels = {key: value for key, value in data.items() if key in spec_fields(ModelLabels)}
        return {**plain(build(ModelLabels, labels)), **plain(build_model(inline_model(data)))}
    if kind == "dictionary":
        labels = {key: value for key, value in data.items() if key in spec_fields(DictionaryLabels)}
        return {**plain(build(DictionaryLabels, labels)), **plain(build_dictionary(data))}
    classes: dict[str, type] = {"task": Task, "method": Method, "suite": Suite}
    return cast("dict[str, Any]", plain(build(classes[kind], data)))


def _build(named: type, hint: Any, data: Any) -> Any:
    builder = _Builder([])
    value = builder.value(hint, data, ())
    if builder.misfits:
        raise DoesNotFit(named, builder.misfits)
    return value


@dataclass
class _Builder:
    misfits: list[Misfit]

    def value(self, hint: Any, value: Any, path: Path) -> Any:
        """`value` converted to the type; a misfit is recorded, and None returned for it."""
        hint, _, _ = unwrapped(hint)
        members, nullable = members_of(hint)
        if nullable and value is None:
            return None
        if len(members) > 1 and all(map(is_spec_class, members)):
            return self._member(members, value, path)
        if len(members) > 1:
            return self._first_that_fits(members, value, path)
        return self.value(members[0], value, path) if nullable else self._plain(hint, value, path)

    def _plain(self, hint: Any, value: Any, path: Path) -> Any:
        if is_spec_class(hint):
            return self._mapping(hint, value, path)
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is tuple and isinstance(value, (list, tuple)):
            return self._tuple(arguments, value, path)
        if _is_mapping(origin) and isinstance(value, Mapping):
            return {key: self.value(arguments[1], one, (*path, key)) for key, one in value.items()}
        if hint is Any or (origin is Literal and value in arguments):
            return value
        number = _number(hint, value)
        if number is None and type(value) is not hint:
            return self._note(Misfit(path, "wrong", value, _words(hint)))
        return value if number is None else number

    def _tuple(self, hints: tuple[Any, ...], value: Any, path: Path) -> Any:
        if hints[-1] is Ellipsis:
            hints = hints[:1] * len(value)
        if len(hints) != len(value):
            return self._note(Misfit(path, "wrong", value, f"a list of {len(hints)} items"))
        pairs = enumerate(zip(hints, value, strict=True))
        return tuple(self.value(hint, one, (*path, index)) for index, (hint, one) in pairs)

    def _member(self, members: tuple[Any, ...], value: Any, path: Path) -> Any:
        """A union of classes: `kind` decides."""
        by_kind = {kind_of(one): one for one in members}
        kind = value.get("kind") if isinstance(value, Mapping) else None
        if kind not in by_kind:
            wanted = f"of kind {' or '.join(by_kind)}"
            return self._note(Misfit(path, "wrong", value, wanted))
        return self._mapping(by_kind[kind], value, path)

    def _first_that_fits(self, members: tuple[Any, ...], value: Any, path: Path) -> Any:
        for one in members:
            trial = _Builder([])
            result = trial.value(one, value, path)
            if not trial.misfits:
                return result
        wanted = " or ".join(_words(one) for one in members)
        return self._note(Misfit(path, "wrong", value, wanted))

    def _mapping(self, cls: type, value: Any, path: Path) -> Any:
        about = about_of(cls)
        if not isinstance(value, Mapping):
            if about is None or not about.short_for:
                return self._note(Misfit(path, "wrong", value, "a mapping"))
            value = {about.short_for: value}
        before = len(self.misfits)
        fields = spec_fields(cls)
        self.misfits += [Misfit((*path, key), "unknown") for key in value if key not in fields]
        values = {}
        for name, one in fields.items():
            if name in value:
                values[name] = self._field(one, value[name], (*path, name))
            elif not one.has_default:
                self._note(Misfit((*path, name), "missing"))
        if len(self.misfits) > before:
            return None
        return cls(**values | _dependent_defaults(cls, values))

    def _field(self, one: SpecField, value: Any, path: Path) -> Any:
        if isinstance(value, str) and (one.key.or_name or one.key.by_granularity):
            return value
        if one.key.keys_of is not None:
            return plain(self.value(one.key.keys_of, value, path))
        return self.value(one.type, value, path)

    def _note(self, misfit: Misfit) -> None:
        self.misfits.append(misfit)


def _dependent_defaults(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields whose default depends on other fields."""
    if cls is Evaluation and "component" not in values:
        name = values.get("granularity", DEFAULT)
        return {} if name == DEFAULT else {"component": granularity(name).components[0]}
    about = about_of(cls)
    if about is not None and about.params_of:
        spec: Literal["task", "method"] = "method" if cls is Method else "task"
        params = values.get("params", {})
        return {"params": completed_params(spec, values[about.params_of], params)}
    return {}


def _is_mapping(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _number(hint: Any, value: Any) -> int | float | None:
    """`1e3` is the integer 1000 where integers are wanted; 1 is 1.0 where numbers are."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if hint is float:
        return float(value) + 0.0  # turns -0.0 into 0.0
    return int(value) if hint is int and float(value).is_integer() else None


def _words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        return f"a list, each item {_words(unwrapped(arguments[0])[0])}"
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if _is_mapping(origin):
        return "a mapping"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    return words.get(hint, str(hint))
