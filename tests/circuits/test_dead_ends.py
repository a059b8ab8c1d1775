"""Removing dead ends changes no logit, under every ablation and in every architecture."""

from __future__ import annotations

import pytest
import torch
from slow_reference import ARCHITECTURES, small_model

from harness.circuits.graph import Graph
from harness.circuits.patching import patched_logits
from harness.circuits.reference import OF_A_RUN, References
from harness.circuits.select import prune

ABLATIONS = ["interchange", "resample", "mean", "mean_positional", "zero"]
SHARES = (0.03, 0.1, 0.2, 0.3, 0.5)


def random_circuits(graph: Graph, each: int = 4) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    shares = torch.tensor(SHARES).repeat_interleave(each)[:, None, None]
    return (torch.rand(len(shares), *graph.allowed.shape, generator=draw) < shares) & graph.allowed


def pruned(circuits: torch.Tensor, graph: Graph, ablation: str) -> torch.Tensor:
    return torch.stack([prune(kept, graph, ablation) for kept in circuits])


def logits_of(model, graph, batch, circuits, ablation, head_bias="unattached"):
    references = References(model, graph, ablation, mean_over=[batch], head_bias=head_bias)
    return patched_logits(model, graph, batch, circuits, references.of(batch))


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_pruned_circuit_gives_the_same_logits(name, ablation, random_batch):
    model, batch = small_model(name), random_batch()
    for inputs in ("token", "summed", "split", "none"):
        graph = Graph.of(model.config, inputs)
        circuits = random_circuits(graph)
        smaller = pruned(circuits, graph, ablation)
        assert (smaller <= circuits).all()
        assert (smaller < circuits).any()
        for head_bias in ("unattached", "shared") if ablation == "zero" else ("unattached",):
            before, after = (
                logits_of(model, graph, batch, kept, ablation, head_bias)
                for kept in (circuits, smaller)
            )
            torch.testing.assert_close(after, before, rtol=0, atol=1e-10)


@pytest.mark.parametrize("ablation", sorted(set(ABLATIONS) - OF_A_RUN))
def test_what_hears_nothing_still_matters_where_a_constant_is_put_in(ablation, random_batch):
    """So the rule for runs is not the rule for constants: it would change the circuit's logits."""
    model, batch = small_model("gpt2-like"), random_batch()
    graph = Graph.of(model.config)
    circuits = random_circuits(graph)
    before, after = (
        logits_of(model, graph, batch, kept, ablation)
        for kept in (circuits, pruned(circuits, graph, "interchange"))
    )
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
