"""[14] The shipped method specs find the true edges of compiled programs, where they can.

Numbers in brackets are those of `tests/PROOFS.md`. Three methods recover both published programs
exactly, but for EAP on the program reverse under zero ablation
(`test_eap_misses_reverse_under_zero_ablation`).
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from support.other_compiler import Published

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.ground_truth import verify
from harness.datasets.batch import Batches
from harness.datasets.open import open_data
from harness.datasets.program.task import checked_program
from harness.discovery.problem import Problem
from harness.discovery.registry import make_method
from harness.discovery.sizing import checked
from harness.models.compile.assemble import compile_program
from harness.models.transformer import Transformer
from harness.runs.compute.ground_truth import ground_truth_agreement
from harness.spec.load import Library

pytestmark = pytest.mark.matrix
EDGES = {
    ("reverse", "zero", "split"): (11, 94),
    ("reverse", "zero", "summed"): (10, 77),
    ("xproportion", "zero", "split"): (5, 32),
    ("xproportion", "zero", "summed"): (5, 23),
    ("reverse", "interchange", "split"): (2, 94),
    ("xproportion", "interchange", "split"): (3, 32),
}
every_case = pytest.mark.parametrize(("program", "ablation", "inputs"), EDGES)


@cache
def compiled(program: str) -> Transformer:
    return compile_program(checked_program(Library().task(program).spec.data)).model


def agreement_of(kind: str, program: str, ablation: str, inputs: str, seed: int):
    """What the shipped spec of a method finds from 128 pairs, beside the truth on 128 others."""
    data = open_data(Library().task(program))
    train = Batches(data.pairs("train", 128, seed), 128, seed=seed)
    test = Batches(data.pairs("test", 128, 0), 128)
    return search(kind, compiled(program), train, test, (program, ablation, inputs), seed)


def search(
    kind: str, model: Transformer, train, test, case: tuple[str, str, str], seed=0, **params
):
    """A method's agreement with the circuit of `EDGES`, verified on the test pairs."""
    method, (_, ablation, inputs) = Library().method(kind).spec, case
    edges = EdgeModel(model, Graph.of(model.config, inputs))
    counterfactuals = EdgeCounterfactuals(model, edges.graph, ablation)
    generator = torch.Generator().manual_seed(seed)
    problem = Problem(edges, train, counterfactuals, "logit_diff", generator)
    found = make_method(method.kind, {**method.params, **params}).discover(problem)
    truth = verify(edges, list(test), counterfactuals)
    assert (truth.size, len(truth.space)) == EDGES[case]
    scores = checked(found, edges.space, kind)
    return ground_truth_agreement(truth, scores, method.selection, ablation)


@every_case
@pytest.mark.parametrize("seed", range(5))
def test_acdc_recovers_the_published_circuits(program, ablation, inputs, seed):
    """[14] Exactly, under either ablation."""
    found = agreement_of("acdc", program, ablation, inputs, seed)
    assert found["exact"], found
    assert found["auroc"] == 1


@pytest.mark.parametrize("case", [case for case in EDGES if case[:2] != ("reverse", "zero")])
@pytest.mark.parametrize("seed", range(5))
def test_eap_recovers_the_published_circuits_that_the_first_order_shows(case, seed):
    """[14] Exactly: there every edge changes the answer in proportion, or does nothing."""
    found = agreement_of("eap", *case, seed)
    assert found["exact"], found
    assert found["auroc"] == 1


@pytest.mark.parametrize("inputs", ["split", "summed"])
@pytest.mark.parametrize("seed", range(5))
def test_eap_misses_reverse_under_zero_ablation(inputs, seed):
    """[14] EAP finds fewer than the 11 edges.

    It cannot be: of these edges all but two lead to the last layer's queries and keys, whose
    softmax is so sharp that a little less of either changes nothing, though nothing at all does.
    Their gradient is zero, so every first-order score of theirs is. Activation patching and ACDC,
    which take edges out, find them.
    """
    found = agreement_of("eap", "reverse", "zero", inputs, seed)
    assert not found["exact"], found
    assert found["auroc"] < 0.9


# Five seeds under zero ablation; each training takes some ten seconds.
SEEDED = [(case, seed) for case in EDGES for seed in (range(5) if case[1] == "zero" else [0])]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "seed"), SEEDED)
def test_edge_pruning_recovers_the_published_circuits(case, seed):
    """[14] Over five seeds, slowly."""
    nearly_exact(agreement_of("edge_pruning", *case, seed))


def nearly_exact(found) -> None:
    """At most an edge or so wrong.

    Where this was written every seed is exact. A thousand noisy steps end elsewhere when a
    machine's kernels round otherwise, and there a seed may miss an edge.
    """
    assert found["auroc"] >= 0.99, found
    assert found["f1"] > 0.79, found


@pytest.mark.slow
@pytest.mark.parametrize("case", EDGES)
@pytest.mark.parametrize("kind", ["acdc", "edge_pruning"])
def test_the_circuits_of_another_compiler_are_recovered(kind, case, reference_file):
    """[14] Its outputs are one-hot or a share: squared error says what is wrong."""
    published = Published.of(case[0], reference_file)
    pairs = Batches(published.pairs((3, 4, 5)), 128)
    found = search(kind, published.model(), pairs, pairs, case, objective="squared_error")
    if kind == "edge_pruning":
        nearly_exact(found)
    else:
        assert found["exact"], found
