"""The shipped suites of weight-sparse models: arms differ in their seeds, and cells are shared."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli.choose import model_of_circuit
from harness.runs.plan import Plan, expand
from harness.spec.load import Library
from harness.spec.types import TrainModel

ARMS = ("idioms-dense", "idioms-dense-abstopk", "idioms-sparse", "idioms-sparse-no-abstopk")


def spec_of(name: str) -> TrainModel:
    spec = Library().model(f"idioms/{name}").spec
    assert isinstance(spec, TrainModel)
    return spec


@pytest.mark.parametrize("arm", ARMS)
def test_models_of_an_arm_differ_in_their_seed_and_where_they_stop(arm: str) -> None:
    specs = [spec_of(f"{arm}-{seed}") for seed in range(3)]
    assert [spec.training.seed for spec in specs] == [0, 1, 2]
    plain = [
        replace(one, name=None, training=replace(one.training, seed=0, target=None))
        for one in specs
    ]
    assert plain[0] == plain[1] == plain[2]


def test_arms_differ_in_what_they_are_called_by() -> None:
    dense, dense_top, sparse, sparse_all = (spec_of(f"{arm}-0") for arm in ARMS)
    assert [one.sparsity is None for one in (dense, dense_top)] == [True, True]
    assert sparse.sparsity == sparse_all.sparsity is not None
    tops = [one.architecture.activation_sparsity for one in (dense, dense_top, sparse, sparse_all)]
    assert [top is None for top in tops] == [True, False, False, True]
    assert dense.corpus == dense_top.corpus == sparse.corpus == sparse_all.corpus


def plan_of(suite: str) -> Plan:
    library = Library()
    return expand(library.suite(suite), library)


def test_the_small_suite_shares_its_cells_with_the_whole_one() -> None:
    whole, small = plan_of("weight_sparse"), plan_of("weight_sparse_small")
    assert len(whole.by_model) == 12
    compete = {cell.id for cell in small.cells if cell.role == "method"}
    assert len(compete) == 2 * (4 * 2 + 1)  # one task by learned masks alone
    assert compete <= {cell.id for cell in whole.cells}


def test_models_of_several_widths_have_as_many_nonzero_weights() -> None:
    """Two budgets; by hand from the shapes, attention and MLPs 12 d², both embeddings V d."""
    nonzeros: dict[int, set[int]] = {}
    for budget in (17, 35):
        for width in (32, 64, 128, 256):
            spec = spec_of(f"idioms-{budget}k-{width}")
            assert spec.architecture.d_model == width
            assert spec.sparsity is not None
            blocks = spec.architecture.n_layers * 12 * width**2 * spec.sparsity.nonzero_fraction
            embeddings = 2 * 330 * width * (spec.sparsity.embedding_fraction or 0)
            nonzeros.setdefault(budget, set()).add(int(blocks + embeddings))
    assert nonzeros == {17: {16_704}, 35: {35_136}}


@pytest.mark.parametrize(
    ("model", "name"),
    [("idioms-sparse-1", "idioms-sparse-1"), ("python-2l-64", "python-2l-64"), ("gone", None)],
)
def test_a_circuit_is_drawn_in_the_model_that_a_suite_gave_its_task(
    model: str, name: str | None
) -> None:
    library = Library()
    task = library.task("code/single_double_quote")
    circuit: Any = SimpleNamespace(source={"model": model})
    own = model_of_circuit(library, task, SimpleNamespace(source={}))  # type: ignore[arg-type]
    source = model_of_circuit(library, task, circuit)
    assert source.name == (name or own.name)
    if model == "idioms-sparse-1":
        assert source.spec == spec_of(model) != own.spec
