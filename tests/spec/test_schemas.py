"""The schemas are sound, fully annotated, closed, and made from the spec classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_type_hints

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from harness.cli.schemas import generated
from harness.cli.schemas import main as write_schemas
from harness.datasets.generators.registry import generator
from harness.discovery.registry import built_in, make_method
from harness.spec import types
from harness.spec.build import build
from harness.spec.granularity import granularity
from harness.spec.key import About, Key, plain, spec_fields
from harness.spec.schema import KINDS, load_schema, validator
from harness.spec.schema.generate import schemas
from harness.spec.schema.params import completed_params
from harness.spec.shipped import shipped_root
from harness.spec.types.scalars import Word

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
        if kind == "result" and name in ("curve", "settled"):
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
                if key not in ("if", "not", "examples", "default"):  # what is refused is no object
                    yield from walk(item, key)
        elif isinstance(part, list):
            for item in part:
                yield from walk(item, name)

    assert list(walk(load_schema(kind), kind)) == []


# ------------------------------------------------------------------ made from the classes
GENERATED = [f"{kind}.schema.json" for kind in KINDS if kind != "result"]


@pytest.mark.parametrize("name", GENERATED)
def test_the_committed_schema_is_the_generated_one(name: str) -> None:
    committed = (shipped_root() / "specs" / name).read_text(encoding="utf-8")
    assert committed == generated()[name], "run `make schemas`"


def test_all_schemas_but_that_of_results_are_generated() -> None:
    assert list(generated()) == GENERATED


def test_what_a_suite_may_change_is_what_an_evaluation_says() -> None:
    own = spec_fields(types.Evaluation)
    changes = spec_fields(types.EvaluationChange)
    assert list(changes) == [name for name, one in own.items() if one.key.changeable]
    hints = get_type_hints(types.EvaluationChange)
    assert hints == {name: get_type_hints(types.Evaluation)[name] | None for name in changes} | {
        "ABOUT": hints["ABOUT"]
    }
    assert types.EvaluationChange() == build(types.EvaluationChange, dict.fromkeys(changes))


def test_choices_are_those_of_the_publication() -> None:
    six = ("granularity", "component", "ablation", "positions", "direction", "set")
    assert (*six, "inputs", "head_bias", "key_value_edges", "answers") == types.CHOICES


def test_the_default_component_is_that_of_edges() -> None:
    edges = granularity("edge")
    assert edges.components[0] == spec_fields(types.Evaluation)["component"].default


def test_the_params_of_every_method_have_a_schema() -> None:
    branches = load_schema("method")["allOf"]
    described = [branch["if"]["properties"]["kind"]["const"] for branch in branches]
    assert described == list(built_in())


@pytest.mark.parametrize("kind", built_in())
def test_a_method_has_the_parameters_and_defaults_of_its_schema(kind: str) -> None:
    method = make_method(kind, {})
    defaults = {one.name: getattr(method, one.name) for one in dataclasses.fields(method)}  # type: ignore[arg-type]
    assert completed_params("method", kind, {}) == plain(defaults)


@pytest.mark.parametrize("name", ["brackets", "quotes", "othello", "boolean_expressions"])
def test_default_parameters_of_a_generator_have_no_problems(name: str) -> None:
    assert generator(name).params().problems() == []
    assert name in load_schema("task")["$defs"]


@dataclasses.dataclass(frozen=True)
class ToyParams:
    """Params that a method could have."""

    ABOUT: ClassVar = About("Parameters of `toy`")

    rate: Annotated[float | None, Key("Rate", "How fast.", [0.5], above=0)] = None
    parts: Annotated[tuple[Word, ...], Key("Parts", "Which ones.", [["a"]], max_items=2)] = ("a",)


def test_params_of_a_method_become_a_part_of_the_schema() -> None:
    schema = schemas({"toy": ToyParams}, {})["method"]
    assert schema["allOf"] == [
        {
            "if": {"properties": {"kind": {"const": "toy"}}, "required": ["kind"]},
            "then": {"properties": {"params": {"$ref": "#/$defs/toy"}}},
        }
    ]
    assert schema["properties"]["kind"]["description"].startswith("The code: `toy`, or one that")
    assert schema["$defs"]["toy"] == {
        "type": "object",
        "title": "Parameters of `toy`",
        "properties": {
            "rate": {
                "type": ["number", "null"],
                "title": "Rate",
                "description": "How fast.",
                "default": None,
                "examples": [0.5],
                "exclusiveMinimum": 0,
            },
            "parts": {
                "type": "array",
                "title": "Parts",
                "description": "Which ones.",
                "default": ["a"],
                "examples": [["a"]],
                "items": {
                    "type": "string",
                    "pattern": r"^\w+$(?!\n)",
                    "x-message": "must be letters, digits or '_'",
                },
                "maxItems": 2,
            },
        },
        "additionalProperties": False,
    }


def test_stale_schemas_are_told_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "specs").mkdir()
    monkeypatch.setattr("harness.cli.schemas.shipped_root", lambda: tmp_path)
    stale = CliRunner().invoke(write_schemas, ["--check"])
    assert stale.exit_code == 1
    assert "not up to date: task.schema.json, model.schema.json" in stale.output
    assert CliRunner().invoke(write_schemas, []).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "specs").iterdir()) == sorted(GENERATED)
    assert CliRunner().invoke(write_schemas, ["--check"]).exit_code == 0
