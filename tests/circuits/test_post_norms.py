"""Heads that are normalised together: the norms' gradients, identities, and one edge by hand.

Numbers in brackets are those of `tests/PROOFS.md`.
"""

from __future__ import annotations

import pytest
import torch
from support.problems import problem_of, scores_of
from support.slow_reference import POST_NORMS, norm, small_model

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals, collect
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.backward import masked_logits
from harness.circuits.edges.patched.forward import PatchedModel, patched_logits
from harness.circuits.edges.patched.post_norms import norm_jvp, norm_vjp

NORM_FREE = {"norm": "none", "activation": "gelu"}
KINDS = {
    "eap": {},
    "eap_ig": {"steps": 3},
    "mask_gradient_ig": {"steps": 3},
    "activation_patching": {},
    "node_patching": {},
    "node_attribution": {"steps": 2},
    "information_flow_routes": {},
}


@pytest.mark.parametrize("kind", ["rmsnorm", "layernorm", "none"])
def test_gradients_of_a_norm_are_its_jacobian(kind):
    model = small_model("post-layernorm-parallel", norm=kind, bias=kind == "layernorm")
    one = next(model.layers()).attention_post_norm
    draw = torch.Generator().manual_seed(1)
    x, change, at = (torch.randn(3, 12, generator=draw, dtype=torch.float64) for _ in range(3))
    jacobian = torch.stack([torch.autograd.functional.jacobian(one, row) for row in x])
    wanted = torch.einsum("nij,nj->ni", jacobian, change)
    torch.testing.assert_close(norm_jvp(one, x, change), wanted, rtol=1e-12, atol=1e-12)
    wanted = torch.einsum("nij,ni->nj", jacobian, at)
    torch.testing.assert_close(norm_vjp(one, x, at), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("parallel", [False, True])
def test_norms_that_do_nothing_change_nothing(parallel, random_batch):
    """A model whose post-norms are the identity is the additive model, for every method."""
    batch = random_batch()
    problems = [
        problem_of(small_model("gpt2-like", parallel=parallel, post_norms=post, **NORM_FREE), batch)
        for post in (False, True)
    ]
    graph = problems[0].edges.graph
    masks = torch.rand(2, *graph.allowed.shape, generator=torch.Generator().manual_seed(2))
    masks = (masks.double() * graph.allowed).requires_grad_()
    gradients = []
    for problem in problems:
        logits = masked_logits(
            problem.edges.patched, batch, masks, problem.counterfactuals.of(batch)
        )
        gradients.append(torch.autograd.grad(logits.square().sum(), masks)[0])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-11, atol=1e-11)
    for kind, params in [*KINDS.items(), ("eap_ig", {"variant": "activations", "steps": 2})]:
        plain, post = (scores_of(kind, problem, **params) for problem in problems)
        torch.testing.assert_close(post, plain, rtol=1e-10, atol=1e-11)


def test_one_dropped_edge_by_hand(random_batch):
    """a0.h1->logits: the final reader alone norms the layer's heads with h1's corrupted output."""
    model, batch = small_model("gemma-like", n_layers=1), random_batch()
    graph, block = Graph.of(model.config), next(model.layers())
    mask = graph.allowed.clone()
    mask[graph.edge_index("a0.h1->logits")] = False
    counterfactual = EdgeCounterfactuals(model, graph, "interchange").of(batch)
    found = patched_logits(model, graph, batch, mask[None], counterfactual)[0]
    clean, corrupted = collect(model, batch.clean), collect(model, batch.corrupted)
    mixed = clean.heads[0].clone()
    mixed[:, :, 1] = corrupted.heads[0][:, :, 1]
    a = mixed.flatten(2) @ block.out_map.weight.T + block.out_map.bias
    gain, eps = block.attention_post_norm.weight, model.config.norm_eps
    stream = clean.streams[0] + norm(a, "rmsnorm", gain, None, eps) + clean.mlps[0]
    wanted = model.unembed(batch.at_positions(stream), batch.read_tokens())
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    whole = model.unembed(batch.at_positions(clean.streams[-1]), batch.read_tokens())
    assert (found - whole).abs().max() > 1e-3


@pytest.mark.parametrize("name", POST_NORMS)
@pytest.mark.parametrize("ablation", ["mean", "zero", "resample"])
def test_eap_is_minus_the_gradient_of_the_full_mask_under_every_ablation(
    name, ablation, random_batch
):
    """[5] Where heads are normalised together."""
    batch = random_batch()
    for head_bias in ("shared", "unattached"):
        problem = problem_of(name, batch, ablation=ablation, head_bias=head_bias)
        mask = problem.edges.graph.allowed.double().requires_grad_()
        logits = masked_logits(
            problem.edges.patched, batch, mask[None], problem.counterfactuals.of(batch)
        )
        problem.loss("metric", batch)(logits).mean().backward()
        torch.testing.assert_close(scores_of("eap", problem), -mask.grad, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", POST_NORMS)
def test_a_pass_leaves_its_counterfactual_as_it_was(name, random_batch):
    """Streams are mixed in place: what they start from is needed for every other reader."""
    model, batch = small_model(name), random_batch()
    graph = Graph.of(model.config)
    counterfactual = EdgeCounterfactuals(model, graph, "interchange").of(batch)
    patched, mask = PatchedModel(model, graph), graph.allowed[None]
    before = [x.clone() for x in (*counterfactual.streams, *counterfactual.mlps)]
    first, again = (patched.logits(batch, mask, counterfactual) for _ in range(2))
    assert torch.equal(first, again)
    after = (*counterfactual.streams, *counterfactual.mlps)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
