"""The schemas are sound, fully annotated, closed, and say the same as the dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from jsonschema import Draft202012Validator

from harness.spec import types
from harness.spec.build import MODEL_FILE_LABELS, build
from harness.spec.normalise import complete
from harness.spec.schema import KINDS, load_schema, validator

Schema = dict[str, Any]


def properties(schema: Schema) -> Iterator[tuple[str, str, Schema]]:
    """(place, name, schema) of every property that is described, wherever it stands."""
    for name, part in schema.get("properties", {}).items():
        if isinstance(part, dict):
            yield schema.get("title", "?"), name, part
    for part in schema.get("$defs", {}).values():
        yield from properties(part)


ALL = [(kind, *found) for kind in KINDS for found in properties(load_schema(kind))]


@pytest.mark.parametrize("kind", KINDS)
def test_is_a_valid_schema(kind: str) -> None:
    Draft202012Validator.check_schema(load_schema(kind))


@pytest.mark.parametrize(("kind", "place", "name", "part"), ALL)
def test_every_property_is_described(kind: str, place: str, name: str, part: Schema) -> None:
    assert part["title"]
    assert part["description"].endswith(".")
    assert isinstance(part["examples"], list)
    assert part["examples"], (kind, place, name)


@pytest.mark.parametrize(("kind", "place", "name", "part"), ALL)
def test_defaults_and_examples_are_valid(kind: str, place: str, name: str, part: Schema) -> None:
    checker = validator(kind).evolve(schema=part)
    # A reference inside the part is meant from the whole schema.
    checker = checker.evolve(_resolver=validator(kind)._registry.resolver(load_schema(kind)["$id"]))
    for value in (*part["examples"], *([part["default"]] if "default" in part else [])):
        if (kind, name) == ("result", "curve"):
            continue  # an example of a whole curve would be a page long
        assert list(checker.iter_errors(value)) == [], (kind, place, name, value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_object_is_closed(kind: str) -> None:
    """An object lists its keys and allows no others, or has values of one schema, or is open."""
    open_on_purpose = {"params", "identity"}

    def walk(part: Any, name: str) -> Iterator[str]:
        if isinstance(part, dict):
            if part.get("type") == "object" and "additionalProperties" not in part:
                decides = any(key in part for key in ("allOf", "if", "$ref"))
                if not decides and name not in open_on_purpose:
                    yield name
            for key, item in part.items():
                if key not in ("if", "examples", "default"):
                    yield from walk(item, key)
        elif isinstance(part, list):
            for item in part:
                yield from walk(item, name)

    assert list(walk(load_schema(kind), kind)) == []


# ------------------------------------------------------------------ parity with the dataclasses
MODEL_KINDS = ("train", "load", "compile")

PARITY: list[tuple[str, str, type]] = [
    ("task", "", types.Task),
    ("task", "generator_data", types.GeneratorData),
    ("task", "template_data", types.TemplateData),
    ("task", "file_data", types.FileData),
    ("task", "program_data", types.ProgramData),
    ("task", "program_step", types.ProgramStep),
    ("task", "program_select", types.ProgramSelect),
    ("task", "template_long", types.Template),
    ("task", "word_list_long", types.WordList),
    ("task", "answer_long", types.AnswerRule),
    ("task", "columns", types.Columns),
    ("task", "evaluation", types.Evaluation),
    ("task", "file_tokenizer", types.TokenizerSpec),
    ("model", "train", types.TrainModel),
    ("model", "load", types.LoadModel),
    ("model", "compile", types.CompileModel),
    ("model", "architecture", types.Architecture),
    ("model", "training", types.Training),
    ("model", "target", types.Target),
    ("method", "", types.Method),
    ("method", "selection", types.Selection),
    ("suite", "", types.Suite),
    ("suite", "runtime", types.Runtime),
    ("suite", "evaluation_change", types.EvaluationChange),
    ("suite", "exclusion", types.Exclusion),
]


@pytest.mark.parametrize(
    ("kind", "part", "cls"), PARITY, ids=[cls.__name__ for _, _, cls in PARITY]
)
def test_same_fields_defaults_and_requirements(kind: str, part: str, cls: type) -> None:
    whole = load_schema(kind)
    schema = whole["$defs"][part] if part else whole
    outer = {"file_tokenizer": "tokenizer", **dict.fromkeys(MODEL_KINDS, "inline")}.get(part, "")
    described = {**whole["$defs"].get(outer, {}).get("properties", {})}
    described |= {k: v for k, v in schema["properties"].items() if v is not True}
    fields = {field.name: field for field in dataclasses.fields(cls)}
    assert set(fields) == set(schema["properties"])
    for name, field in fields.items():
        if name == "kind" and name not in described:
            assert part.startswith(str(field.default))  # decided by the discriminator
            continue
        if part in MODEL_KINDS and name == "kind":
            assert field.default == part
            continue
        required = name in schema.get("required", ()) or (name == "kind" and outer != "")
        if required:
            # spec_version is required in files and constant, so the class may fill it in
            default_allowed = name in ("spec_version", "path")
            assert default_allowed or _default(field) is dataclasses.MISSING, name
        elif "default" in described[name]:
            completed = complete(
                described[name]["default"],
                {**described[name], "$defs": whole["$defs"]},
                load_schema,
            )
            assert _typed(cls, name, completed) == _default(field), name
        else:
            assert _default(field) is None, name


def _default(field: Any) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _typed(cls: type, name: str, value: Any) -> Any:
    """The default as it arrives in an instance of the class."""
    only = dataclasses.make_dataclass("Only", [(name, get_type_hints(cls)[name])])
    return getattr(build(only, {name: value}), name)


def test_all_spec_classes_are_compared() -> None:
    classes = {
        one
        for one in vars(types).values()
        if dataclasses.is_dataclass(one) and isinstance(one, type)
    }
    assert classes == {cls for _, _, cls in PARITY}


def test_a_model_file_is_an_inline_model_with_labels() -> None:
    parts = load_schema("model")["$defs"]
    for kind in MODEL_KINDS:
        inline, file = parts[kind]["properties"], parts[f"{kind}_file"]["properties"]
        assert set(file) - set(inline) == set(MODEL_FILE_LABELS)
        assert {key: file[key] for key in inline} == inline
        assert parts[kind].get("required") == parts[f"{kind}_file"].get("required")


def test_generator_parameters_are_those_of_the_code() -> None:
    from harness.datasets.generators.brackets import BracketParams
    from harness.datasets.generators.othello.source import OthelloParams
    from harness.datasets.generators.quotes.source import QuoteParams

    parts = load_schema("task")["$defs"]
    classes = {"brackets": BracketParams, "quotes": QuoteParams, "othello": OthelloParams}
    for name, cls in classes.items():
        schema = parts[name]["properties"]
        fields = {field.name: field.default for field in dataclasses.fields(cls)}
        defaults = {
            key: tuple(one["default"]) if isinstance(one["default"], list) else one["default"]
            for key, one in schema.items()
        }
        assert defaults == fields, name
        assert cls(**defaults).problems() == []
