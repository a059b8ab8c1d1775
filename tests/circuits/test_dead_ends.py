"""Removing dead ends changes no logit, under every ablation and in every architecture.

`PatchedModel.logits` leaves useless nodes out by itself (`patched.live`), those that are
useless under all the masks of a call: two such calls could agree because they ran the same nodes.
So a circuit before it is pruned is run in full, alone, by the pass with gradients.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

import pytest
import torch
from support.slow_reference import ARCHITECTURES, small_model

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.backward import masked_logits
from harness.circuits.edges.patched.forward import PatchedModel
from harness.circuits.edges.select import prune
from harness.circuits.patchable import OF_A_RUN

pytestmark = pytest.mark.matrix
ABLATIONS = ["interchange", "resample", "mean", "mean_positional", "zero"]
SHARES = (0.03, 0.1, 0.2, 0.3, 0.5)


def random_circuits(graph: Graph, each: int = 4) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    shares = torch.tensor(SHARES).repeat_interleave(each)[:, None, None]
    return (torch.rand(len(shares), *graph.allowed.shape, generator=draw) < shares) & graph.allowed


def pruned(circuits: torch.Tensor, graph: Graph, ablation: str) -> torch.Tensor:
    return torch.stack([prune(kept, graph, ablation) for kept in circuits])


class Case:
    """A model, a graph of it and prompts, with what dropped edges carry."""

    def __init__(self, model, graph, batch, ablation, head_bias="unattached"):
        counterfactuals = EdgeCounterfactuals(
            model, graph, ablation, mean_over=[batch], head_bias=head_bias
        )
        self.patched, self.batch = PatchedModel(model, graph), batch
        self.counterfactual = counterfactuals.of(batch)

    def in_full(self, circuits):
        """Logits [S, B, P, V] of circuits [S, W, R], every node run for each of them."""
        each = [
            masked_logits(
                self.patched,
                self.batch,
                kept[None].double(),
                self.counterfactual,
                exact_zeros=False,
            )
            for kept in circuits
        ]
        return torch.cat(each)

    def logits(self, circuits):
        """The same as circuits are evaluated."""
        return self.patched.logits(self.batch, circuits, self.counterfactual)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_pruned_circuit_gives_the_same_logits(name, ablation, random_batch):
    """[13] Under every ablation by the rule for that ablation."""
    model, batch = small_model(name), random_batch()
    for inputs in ("token", "summed", "split", "none"):
        graph = Graph.of(model.config, inputs)
        circuits = random_circuits(graph)
        smaller = pruned(circuits, graph, ablation)
        assert (smaller <= circuits).all()
        assert (smaller < circuits).any()
        for head_bias in ("unattached", "shared") if ablation == "zero" else ("unattached",):
            case = Case(model, graph, batch, ablation, head_bias)
            before = case.in_full(circuits)
            torch.testing.assert_close(case.in_full(smaller), before, rtol=0, atol=1e-10)
            torch.testing.assert_close(case.logits(smaller), before, rtol=0, atol=1e-10)


@pytest.mark.parametrize("ablation", sorted(set(ABLATIONS) - OF_A_RUN))
def test_what_hears_nothing_still_matters_where_a_constant_is_put_in(ablation, random_batch):
    """[13] So the rule for runs is not the rule for constants: it would change the logits."""
    model, batch = small_model("gpt2-like"), random_batch()
    graph = Graph.of(model.config)
    circuits = random_circuits(graph)
    case = Case(model, graph, batch, ablation)
    before, after = case.in_full(circuits), case.in_full(pruned(circuits, graph, "interchange"))
    assert (after - before).abs().amax() > 0.01


def test_edges_that_lead_nowhere_go_under_every_ablation():
    graph = Graph(2, 2)
    kept = torch.zeros_like(graph.allowed)
    for edge in ("input->a0.h0<q>", "a0.h0->m0", "m0->a1.h1<k>", "a0.h1->logits"):
        kept[graph.edge_index(edge)] = True
    for ablation in ABLATIONS:
        left = prune(kept, graph, ablation)
        names = [graph.edge_name(row, column) for row, column in left.nonzero().tolist()]
        assert names == ([] if ablation in OF_A_RUN else ["a0.h1->logits"])
