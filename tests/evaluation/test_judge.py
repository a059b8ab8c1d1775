"""The judgement of a circuit: anchors, agreement with the measures it is made of, refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from slow_reference import small_model
from toy_task import CHOICES

from harness.circuits.circuit import Circuit
from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.forward import PatchedModel
from harness.errors import HarnessError
from harness.evaluation.completeness import Learner
from harness.evaluation.curve import evaluate_circuits
from harness.evaluation.judge import TESTS, Effort, judge
from harness.evaluation.knockout import random_subsets

LITTLE = Effort(
    subsets=4, greedy_steps=2, greedy_width=4, edges=6, contexts=1, references=10, permutations=50
)


class Setting:
    def __init__(self, random_batch, name="gpt2-like"):
        self.model = small_model(name)
        self.graph = Graph.of(self.model.config)
        self.patched = PatchedModel(self.model, self.graph)
        self.references = EdgeCounterfactuals(self.model, self.graph, "interchange")
        self.batches, self.search = ([random_batch(n=8, seed=seed)] for seed in (0, 1))

    def circuit(self, share=0.6):
        draw = torch.Generator().manual_seed(3)
        kept = random_subsets(self.graph.allowed, share, 1, draw)[0]
        return Circuit(self.graph, kept, d_model=self.model.config.d_model)

    def judge(self, circuit, *, seed=0, batches=None, **options):
        return judge(
            self.patched,
            self.batches if batches is None else batches,
            self.references,
            circuit,
            CHOICES,
            seed=seed,
            **{"search": self.search, "effort": LITTLE, **options},
        )

    def metric(self, batches, *circuits):
        found = evaluate_circuits(self.patched, batches, self.references, circuits, CHOICES)
        return found.values["metric"]


@pytest.fixture
def setting(random_batch):
    return Setting(random_batch)


def test_the_whole_model(setting):
    whole = Circuit(setting.graph, setting.graph.allowed)
    found = setting.judge(whole, learner=Learner(steps=2))
    assert found["circuit"]["faithfulness"]["value"] == 1
    assert (found["sparsity"], found["size"]) == (0, setting.graph.n_edges)
    assert found["nodes"] == found["nodes_total"] == 2 * 4
    knockouts = found["completeness"]
    for name in ("nothing", "random", "nodes", "worst_nodes", "worst_edges", "learned"):
        assert knockouts[name]["mean"]["value"] == 0
        assert knockouts[name]["share"]["value"] == 0
    assert found["equivalence"]["p"] == pytest.approx(1)
    assert found["minimality"]["test"] is None  # no edge can be added


def test_numbers_are_those_of_the_circuits(setting):
    circuit = setting.circuit()
    found = setting.judge(circuit)
    kept, allowed = circuit.kept, setting.graph.allowed
    m = setting.metric(setting.batches, kept, torch.zeros_like(kept), allowed)
    c, empty, whole = m.mean(1)
    assert found["circuit"]["faithfulness"]["value"] == pytest.approx((c - empty) / (whole - empty))
    nothing = found["completeness"]["nothing"]
    assert nothing["mean"]["value"] == pytest.approx(abs(c - whole))
    assert nothing["share"]["value"] == pytest.approx(abs((c - whole) / (whole - empty)))
    assert found["equivalence"]["statistic"] == np.mean(m[0] > m[2])
    weakest = found["minimality"]["edges"]["weakest"]
    assert [one["share"] for one in weakest] == sorted(one["share"] for one in weakest)
    one = setting.judge(circuit, effort=replace(LITTLE, contexts=0))["minimality"]["edges"]
    for part in one["weakest"]:
        smaller = kept.clone()
        smaller[setting.graph.edge_index(part["name"])] = False
        dropped = setting.metric(setting.batches, smaller).mean()
        assert part["share"] == pytest.approx(abs((c - dropped) / (whole - empty)))


def test_it_is_plain_json_and_follows_the_seed(setting):
    circuit = setting.circuit()
    learner = Learner(steps=2)
    first, again = (
        json.dumps(setting.judge(circuit, learner=learner), allow_nan=False) for _ in "ab"
    )
    assert first == again
    assert json.dumps(setting.judge(circuit, learner=learner, seed=1)) != first


def test_leaving_a_test_out_does_not_change_the_others(setting):
    circuit = setting.circuit()
    together = setting.judge(circuit)
    for name in TESTS:
        alone = setting.judge(circuit, tests=(name,))
        assert alone[name] == together[name]
        assert [test for test in TESTS if test in alone] == [name]
    with pytest.raises(ValueError, match="unknown tests"):
        setting.judge(circuit, tests=("sufficiency",))


def test_the_worst_knockout_is_found_on_other_pairs(setting):
    circuit = setting.circuit()
    other = setting.judge(circuit, tests=("completeness",))["completeness"]
    same = setting.judge(circuit, tests=("completeness",), search=None)["completeness"]
    assert other["searched_on_other_pairs"]
    assert not same["searched_on_other_pairs"]
    # Searched where it is measured, it is at least as bad as no knock-out.
    assert same["worst_edges"]["mean"]["value"] >= same["nothing"]["mean"]["value"]


def test_transfer_is_the_same_circuit_on_other_pairs(setting):
    circuit = setting.circuit()
    found = setting.judge(circuit, batches=setting.search, tests=())
    wanted = setting.metric(setting.search, circuit.kept)[0]
    assert found["circuit"]["metric"]["value"] == pytest.approx(wanted.mean())


def test_a_circuit_without_nodes_has_no_node_knockouts(setting):
    kept = torch.zeros_like(setting.graph.allowed)
    kept[setting.graph.edge_index("input->logits")] = True
    found = setting.judge(Circuit(setting.graph, kept))
    assert found["nodes"] == 0
    assert found["completeness"]["nodes"] is None
    assert found["minimality"]["nodes"] is None
    assert found["completeness"]["worst_nodes"]["worst"]["knockout"] == "nothing"


def test_what_is_not_defined_is_null(random_batch):
    setting = Setting(random_batch)
    same = [replace(setting.batches[0], corrupted=setting.batches[0].clean)]
    found = setting.judge(setting.circuit(), batches=same)
    assert found["circuit"]["faithfulness"]["value"] is None
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"graph": Graph(2, 3, inputs="summed")}, "the model's is Graph"),
        ({"d_model": 99}, "d_model 99, this one has 12"),
        ({"kept": None}, "keeps no edge"),
    ],
    ids=["graph", "width", "empty"],
)
def test_refusals(setting, change, said):
    if "kept" in change:
        change = {"kept": torch.zeros_like(setting.graph.allowed)}
    with pytest.raises(HarnessError, match=said):
        setting.judge(replace(setting.circuit(), **change))
