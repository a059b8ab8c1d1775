"""The judgement of a circuit: anchors, agreement with the measures it is made of, refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.slow_reference import small_model
from support.toy_task import CHOICES

from harness.circuits.circuit import Circuit
from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.edges.space import EdgeSpace
from harness.errors import HarnessError
from harness.evaluation.completeness import Learner
from harness.evaluation.curve import evaluate_circuits
from harness.evaluation.judge import TESTS, Effort, judge
from harness.evaluation.knockout import random_subsets
from harness.evaluation.setup import Setup

LITTLE = Effort(
    subsets=4,
    greedy_steps=2,
    greedy_width=4,
    elements=6,
    contexts=1,
    references=10,
    permutations=50,
)


class Case:
    """A model, prompts to measure circuits on, and others to search for knock-outs on."""

    def __init__(self, random_batch, name="gpt2-like"):
        model = small_model(name)
        graph = Graph.of(model.config)
        counterfactuals = EdgeCounterfactuals(model, graph, "interchange")
        batches, others = ([random_batch(n=8, seed=seed)] for seed in (0, 1))
        self.test = Setup(EdgeModel(model, graph), batches, counterfactuals, CHOICES)
        self.search = replace(self.test, batches=others)
        self.space = self.test.space
        self.everything = torch.ones(len(self.space), dtype=torch.bool)

    def circuit(self, share=0.6):
        draw = torch.Generator().manual_seed(3)
        kept = random_subsets(self.everything, self.space, share, 1, draw)[0]
        return Circuit(self.space, kept, d_model=self.test.model.config.d_model)

    def judge(self, circuit, *, seed=0, setup=None, **options):
        setup = self.test if setup is None else setup
        return judge(
            setup, circuit, seed=seed, **{"search": self.search, "effort": LITTLE, **options}
        )

    def metric(self, setup, *circuits):
        return evaluate_circuits(setup, circuits).values["metric"]


@pytest.fixture
def case(random_batch):
    return Case(random_batch)


def test_the_whole_model(case):
    whole = Circuit(case.space, case.everything)
    found = case.judge(whole, learner=Learner(steps=2))
    assert found["circuit"]["faithfulness"]["value"] == 1
    assert (found["sparsity"], found["size"]) == (0, len(case.space))
    assert (found["unit"], found["total"]) == ("edges", case.space.graph.n_edges)
    for name, value in found["plain"].items():  # the model itself, but for rounding
        assert found["circuit"][name]["value"] == pytest.approx(value["value"], abs=1e-10)
    assert found["nodes"] == found["nodes_total"] == 2 * 4
    knockouts = found["completeness"]
    for name in ("nothing", "random", "nodes", "worst_nodes", "worst_elements", "learned"):
        assert knockouts[name]["mean"]["value"] == 0
        assert knockouts[name]["share"]["value"] == 0
    assert found["equivalence"]["p"] == pytest.approx(1)
    assert found["minimality"]["test"] is None  # no element can be added


def test_numbers_are_those_of_the_circuits(case):
    circuit = case.circuit()
    found = case.judge(circuit)
    kept = circuit.kept
    m = case.metric(case.test, kept, torch.zeros_like(kept), case.everything)
    c, empty, whole = m.mean(1)
    assert found["circuit"]["faithfulness"]["value"] == pytest.approx((c - empty) / (whole - empty))
    nothing = found["completeness"]["nothing"]
    assert nothing["mean"]["value"] == pytest.approx(abs(c - whole))
    assert nothing["share"]["value"] == pytest.approx(abs((c - whole) / (whole - empty)))
    assert found["equivalence"]["statistic"] == np.mean(m[0] > m[2])
    weakest = found["minimality"]["elements"]["weakest"]
    assert [one["share"] for one in weakest] == sorted(one["share"] for one in weakest)
    one = case.judge(circuit, effort=replace(LITTLE, contexts=0))["minimality"]["elements"]
    for part in one["weakest"]:
        smaller = kept.clone()
        smaller[case.space.index(part["name"])] = False
        dropped = case.metric(case.test, smaller).mean()
        assert part["share"] == pytest.approx(abs((c - dropped) / (whole - empty)))


def test_it_is_plain_json_and_follows_the_seed(case):
    circuit = case.circuit()
    learner = Learner(steps=2)
    first, again = (json.dumps(case.judge(circuit, learner=learner), allow_nan=False) for _ in "ab")
    assert first == again
    assert json.dumps(case.judge(circuit, learner=learner, seed=1)) != first


def test_leaving_a_test_out_does_not_change_the_others(case):
    circuit = case.circuit()
    together = case.judge(circuit)
    for name in TESTS:
        alone = case.judge(circuit, tests=(name,))
        assert alone[name] == together[name]
        assert [test for test in TESTS if test in alone] == [name]
    with pytest.raises(ValueError, match="unknown tests"):
        case.judge(circuit, tests=("sufficiency",))


def test_the_worst_knockout_is_found_on_other_pairs(case):
    circuit = case.circuit()
    other = case.judge(circuit, tests=("completeness",))["completeness"]
    same = case.judge(circuit, tests=("completeness",), search=None)["completeness"]
    assert other["searched_on_other_pairs"]
    assert not same["searched_on_other_pairs"]
    # Searched where it is measured, it is at least as bad as no knock-out.
    assert same["worst_elements"]["mean"]["value"] >= same["nothing"]["mean"]["value"]


def test_transfer_is_the_same_circuit_on_other_pairs(case):
    circuit = case.circuit()
    found = case.judge(circuit, setup=case.search, tests=())
    wanted = case.metric(case.search, circuit.kept)[0]
    assert found["circuit"]["metric"]["value"] == pytest.approx(wanted.mean())


def test_a_circuit_without_nodes_has_no_node_knockouts(case):
    kept = torch.zeros_like(case.everything)
    kept[case.space.index("input->logits")] = True
    found = case.judge(Circuit(case.space, kept))
    assert found["nodes"] == 0
    assert found["completeness"]["nodes"] is None
    assert found["minimality"]["nodes"] is None
    assert found["completeness"]["worst_nodes"]["worst"]["knockout"] == "nothing"


def test_what_is_not_defined_is_null(random_batch):
    case = Case(random_batch)
    (batch,) = case.test.batches
    same = replace(case.test, batches=[replace(batch, corrupted=batch.clean)])
    found = case.judge(case.circuit(), setup=same)
    assert found["circuit"]["faithfulness"]["value"] is None
    assert found["plain"]["faithfulness"]["value"] is None
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"space": EdgeSpace(Graph(2, 3, inputs="summed"))}, r"the model's is EdgeSpace\(graph="),
        ({"space": EdgeSpace(Graph(3, 3))}, r"the model's is EdgeSpace\(graph="),
        ({"d_model": 99}, "d_model 99, this one has 12"),
        ({"kept": None}, "keeps nothing"),
    ],
    ids=["inputs", "layers", "width", "empty"],
)
def test_refusals(case, change, said):
    if "kept" in change:
        change = {"kept": torch.zeros_like(case.everything)}
    with pytest.raises(HarnessError, match=said):
        case.judge(replace(case.circuit(), **change))
