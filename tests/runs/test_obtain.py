"""A compiled model is made from the cell's task, in the cell's precision, and never stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.fake_cells import a_cell, a_method, a_model, a_task, loaded

from harness.datasets.generators.spec import GeneratorData
from harness.datasets.open import open_data
from harness.errors import HarnessError
from harness.models.compile.assemble import compile_program
from harness.runs.compute.obtain import obtain_model
from harness.runs.plan import ModelSource, make_cell
from harness.runs.store.models import ModelStore
from harness.spec.load import Library
from harness.spec.types import CompileModel, Runtime


def cell_of(name, model=None, runtime=None):
    task = Library().task(name)
    source = ModelSource(model or task.spec.model, name, task.folder)
    return make_cell(task, source, a_method(), "method", 0, runtime or Runtime())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_cell_gets_the_compiled_program_of_its_task(tmp_path, dtype):
    cell = cell_of("reverse", runtime=Runtime(dtype=dtype))
    data, models = open_data(cell.task), ModelStore(tmp_path / "models")
    model = obtain_model(cell, data, models, lambda text: None)
    assert model.embedding.dtype == getattr(torch, dtype)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.config.d_vocab == data.tokenizer.size
    assert model.config.n_ctx == data.longest
    expected = compile_program(data.source.program).model
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one.float(), other)
    assert not models.exists(cell.model_id)


def test_what_the_weights_are_made_of_is_part_of_the_id():
    cell = cell_of("reverse")
    harder, named = (
        cell_of("reverse", model)
        for model in (CompileModel(hardness=60.0), CompileModel(name="known"))
    )
    assert cell.model_id != harder.model_id
    assert cell.id != harder.id
    assert cell.id == named.id
    assert cell.model_id != cell_of("sort").model_id


def brackets(name, **params):
    return a_task(name, data=GeneratorData(generator="brackets", params={"max_depth": 3, **params}))


def test_a_model_is_trained_on_the_task_that_it_names(tmp_path):
    """The same weights as that task's own model, and one in the cache for both."""
    taught = loaded(brackets("taught", lengths=[9, 11], min_distance=2))
    asked = loaded(brackets("asked", lengths=[9], min_distance=2))
    models, said = ModelStore(tmp_path / "models"), []

    def obtain(task, trained_on):
        source = ModelSource(a_model(), "m", Path(), trained_on)
        cell = make_cell(task, source, a_method(), "method", 0, Runtime(threads=1))
        return cell, obtain_model(cell, open_data(cell.task), models, said.append)

    shared, model = obtain(asked, taught)
    assert model.config.n_ctx == open_data(taught).longest > open_data(asked).longest
    cell, again = obtain(taught, None)
    assert cell.model_id == shared.model_id
    assert "is in the cache" in said[-1]
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lengths": [9], "kinds": ["()", "<>"]}, "their tokens are not the same"),
        ({"lengths": [13]}, "its prompts have up to 13 tokens, the model's up to 9"),
    ],
)
def test_a_task_that_does_not_fit_its_training_is_refused(tmp_path, params, message):
    taught = loaded(brackets("taught", lengths=[9], min_distance=2))
    source = ModelSource(a_model(), "m", Path(), taught)
    task = loaded(brackets("asked", min_distance=2, **params))
    cell = make_cell(task, source, a_method(), "method", 0, Runtime())
    with pytest.raises(HarnessError, match=f"'taught' cannot do task 'asked': {message}"):
        obtain_model(cell, open_data(task), ModelStore(tmp_path), print)


def test_a_task_without_a_program_cannot_be_compiled(tmp_path):
    cell = replace(a_cell(a_task()), model=CompileModel())
    with pytest.raises(HarnessError, match=r"no program to compile .* kind 'generator'"):
        obtain_model(cell, open_data(cell.task), ModelStore(tmp_path), lambda text: None)
