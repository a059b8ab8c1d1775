"""The smallest circuit that reaches a target, against trying every size."""

from __future__ import annotations

import pytest
import torch
from support.slow_reference import small_model
from support.toy_task import CHOICES

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.patchable import plain_logits
from harness.circuits.select import top_n
from harness.datasets.batch import Batch
from harness.evaluation import references
from harness.evaluation import targets as module
from harness.evaluation.references import References
from harness.evaluation.setup import Setup
from harness.evaluation.targets import TargetSearch, reached, with_losses
from harness.spec.types import CircuitTarget


@pytest.fixture
def setup(random_batch) -> Setup:
    model = small_model("gpt2-like")
    graph = Graph.of(model.config)
    counterfactuals = EdgeCounterfactuals(model, graph, "interchange")
    return Setup(EdgeModel(model, graph), [random_batch()], counterfactuals, CHOICES)


def search_of(setup: Setup, scores: torch.Tensor) -> TargetSearch:
    def circuit_of(n: int) -> torch.Tensor:
        return setup.space.prune(top_n(scores, n), "interchange")

    return TargetSearch.start(setup, References(setup), circuit_of)


def ranking(setup: Setup, seed: int) -> torch.Tensor:
    return torch.rand(len(setup.space), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "target",
    [CircuitTarget(faithfulness=0.5), CircuitTarget(faithfulness=0.99), CircuitTarget(kl=0.05)],
)
def test_one_element_less_does_not_reach_it(setup, target, seed):
    search = search_of(setup, ranking(setup, seed))
    (n,) = search.smallest([target])
    assert n is not None
    everyone = search_of(setup, ranking(setup, seed))
    everyone._measure(list(range(len(setup.space) + 1)))  # every size there is
    assert reached(target, everyone.means[n])
    assert not reached(target, everyone.means[n - 1])


def test_what_was_measured_before_narrows_the_search(setup, monkeypatch):
    scores = ranking(setup, 0)
    (n,) = search_of(setup, scores).smallest([CircuitTarget(kl=0.05)])
    search = search_of(setup, scores)
    search._measure([0, n - 1, n, len(setup.space)])
    monkeypatch.setattr(module, "evaluate_circuits", None)  # nothing is left to run
    assert search.smallest([CircuitTarget(kl=0.05)]) == [n]


def test_several_targets_are_each_reached_where_one_less_is_not(setup):
    wanted = [
        CircuitTarget(faithfulness=0.85),
        CircuitTarget(faithfulness=0.95),
        CircuitTarget(kl=0.01),
    ]
    search = search_of(setup, ranking(setup, 1))
    numbers = search.smallest(wanted)
    search._measure([n - 1 for n in numbers])
    for target, n in zip(wanted, numbers, strict=True):
        assert reached(target, search.means[n])
        assert not reached(target, search.means[n - 1])


def test_all_elements_reach_every_faithfulness_up_to_one(setup):
    assert search_of(setup, ranking(setup, 2)).smallest([CircuitTarget(faithfulness=1.0)])[0]


def test_a_target_out_of_reach_has_no_circuit(setup):
    assert search_of(setup, ranking(setup, 2)).smallest([CircuitTarget(kl=-1.0)]) == [None]


def test_a_loss_that_is_not_measured_otherwise_is_measured_for_its_target(setup):
    search = search_of(with_losses(setup, [CircuitTarget(cross_entropy=0)]), ranking(setup, 3))
    everything = len(setup.space)
    search._measure(range(everything + 1))
    losses = [search.means[n]["cross_entropy"] for n in range(everything + 1)]
    target = CircuitTarget(cross_entropy=(min(losses) + max(losses)) / 2)
    (n,) = search.smallest([target])
    assert n == next(n for n, loss in enumerate(losses) if loss <= target.value)
    assert with_losses(setup, [target]).choices.measures == ("cross_entropy",)


@pytest.mark.parametrize("budget", [0, references.KEPT])
def test_references_are_kept_while_they_fit(setup, monkeypatch, budget):
    monkeypatch.setattr(references, "KEPT", budget)
    runs: list[Batch] = []

    def counted(model, batch):
        runs.append(batch)
        return plain_logits(model, batch)

    monkeypatch.setattr(references, "plain_logits", counted)
    target = CircuitTarget(faithfulness=0.5)
    numbers = search_of(setup, ranking(setup, 0)).smallest([target])
    assert (len(runs) == len(setup.batches)) == (budget > 0)
    monkeypatch.undo()
    assert numbers == search_of(setup, ranking(setup, 0)).smallest([target])
