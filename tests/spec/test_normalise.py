"""Defaults, short forms and number types are settled in one place, once."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.datasets.files.spec import Columns, FileData
from harness.datasets.program.spec import ProgramData, ProgramSelect, ProgramStep
from harness.datasets.template.spec import AnswerRule, Template, TemplateData, WordList
from harness.spec.build import DoesNotFit, build, build_model, inline_model, normalise
from harness.spec.schema import load_schema, validator
from harness.spec.types import CompileModel, Method, Task, TrainingTarget, TrainModel
from harness.spec.yaml.source import read_source

FILES = [
    (kind, path.relative_to(Path(__file__).parent).as_posix())
    for kind in ("task", "model", "method", "suite")
    for path in sorted((Path(__file__).parent / "valid" / f"{kind}s").glob("*.yaml"))
]


def data(relative: str) -> Any:
    return read_source(Path(__file__).parent / relative).data


@pytest.mark.parametrize(("kind", "file"), FILES)
def test_idempotent_valid_and_leaves_its_input_alone(kind: Any, file: str) -> None:
    given = data(file)
    before = copy.deepcopy(given)
    once = normalise(given, kind)
    assert given == before
    assert list(validator(kind).iter_errors(once)) == []
    again = normalise(once, kind)
    assert repr(again) == repr(once)  # repr also tells 1 from 1.0


def test_defaults_follow_kinds_and_generators() -> None:
    done = normalise(data("valid/tasks/tiny.yaml"), "task")
    assert done["data"]["params"] == {
        name: part["default"]
        for name, part in load_schema("task")["$defs"]["brackets"]["properties"].items()
    }
    assert done["data"]["shares"] == {"train": 0.8, "validation": 0.1, "test": 0.1}
    assert done["tokenizer"] == {"kind": "characters", "bos": False}
    assert done["model"]["training"]["beta2"] == 0.98
    assert done["model"]["training"]["target"] is None
    assert "path" not in done["model"]


def test_parameters_of_plug_ins_are_left_as_they_are() -> None:
    given = {"spec_version": 1, "name": "x", "title": "X", "kind": "their/method"}
    given["params"] = {"a": 1, "b": [1.0, {"c": None}]}
    assert list(validator("method").iter_errors(given)) == []
    assert build(Method, normalise(given, "method")).params == given["params"]


def test_numbers_get_the_type_of_their_schema() -> None:
    done = normalise(data("valid/models/tiny_model.yaml"), "model")
    training = done["training"]
    assert (training["steps"], type(training["steps"])) == (100, int)
    assert (training["learning_rate"], type(training["learning_rate"])) == (1.0, float)
    assert done["architecture"]["d_mlp"] is None


def test_short_forms_are_written_out() -> None:
    task = build(Task, normalise(data("valid/tasks/tiny_template.yaml"), "task") | {"model": {
        "kind": "load", "path": "weights"}})  # fmt: skip
    assert isinstance(task.data, TemplateData)
    assert task.data.templates == (
        Template(text="{X} and {Y} met, {S2} spoke to"),
        Template(text="{X} saw {Y}, {S2} waved to", split="new_frames"),
    )
    assert task.data.lists == {
        "names": WordList(words=("Ann", "Bob", "Cid")),
        "others": WordList(words=("Dan", "Eve")),
        "numbers": WordList(range=(0, 12), digits=2),
        "more": WordList(file="words.txt"),
    }
    assert task.data.good == AnswerRule(slot="A")
    assert task.data.bad == AnswerRule(list="names", after="S")
    assert task.data.held_out == {"test": {"names": ("Ann",)}}
    assert task.evaluation.sizes == (0.1, 0.5, 1.0)
    assert task.evaluation.test_pairs == 10


def test_the_other_forms_are_built() -> None:
    task = build(Task, normalise(data("valid/tasks/tiny_file.yaml"), "task"))
    assert task.data == FileData(
        path="pairs.csv", format="csv", columns=Columns(clean="prompt", good="answer", bad="wrong")
    )
    model = build_model(inline_model(normalise(data("valid/models/tiny_model.yaml"), "model")))
    assert isinstance(model, TrainModel)
    assert model.training.target == TrainingTarget(value=0.9)


def test_programs_are_built_step_by_step() -> None:
    task = build(Task, normalise(data("valid/tasks/tiny_program.yaml"), "task"))
    assert isinstance(task.data, ProgramData)
    assert not task.data.causal
    assert task.data.program["number"] == ProgramStep(
        map="1 if tokens == 'a' else 0", numerical=True
    )
    select = ProgramSelect(keys="indices", queries="indices", predicate="<", which="latest")
    assert task.data.program["latest"] == ProgramStep(select=select)
    assert task.data.program["before"] == ProgramStep(aggregate="latest", of="number")
    assert task.model == CompileModel(hardness=40.0)
    file = normalise(data("valid/models/tiny_compiled.yaml"), "model")
    assert build_model(inline_model(file)) == CompileModel(name="tiny_compiled")


def test_building_from_what_is_not_valid_is_a_bug() -> None:
    done = normalise(data("valid/tasks/tiny.yaml"), "task")
    for wrong in ({**done, "surprise": 1}, {**done, "title": 5}, {**done, "model": {"kind": "?"}}):
        with pytest.raises(TypeError):
            build(Task, wrong)


@dataclass(frozen=True)
class Part:
    """Not a spec: the builder takes any dataclass."""

    names: tuple[str, ...] = ()
    size: int | float | None = None


@dataclass(frozen=True)
class Whole:
    """Has a part."""

    part: Part
    sides: tuple[int, int] = (1, 2)


def test_all_misfits_are_told_with_their_places() -> None:
    with pytest.raises(DoesNotFit) as caught:
        build(Whole, {"part": {"names": ["a", 1], "sice": 2, "size": "x"}, "sides": [1]})
    assert [str(one) for one in caught.value.misfits] == [
        "part.sice is unknown",
        "part.names.1 is 1, not a text",
        "part.size is 'x', not a whole number or a number",
        "sides is [1], not a list of 2 items",
    ]
    with pytest.raises(DoesNotFit, match="not a Whole: part is missing"):
        build(Whole, {})
    with pytest.raises(DoesNotFit, match="part is 3, not a mapping"):
        build(Whole, {"part": 3})


def test_any_dataclass_is_built() -> None:
    whole = build(Whole, {"part": {"names": ["a"], "size": 2.5}, "sides": [3.0, 4]})
    assert whole == Whole(Part(("a",), 2.5), (3, 4))
    assert repr(whole.sides) == "(3, 4)"
