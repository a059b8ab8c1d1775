"""Groups spread over heads: the same computation, scores that add up to the same."""

from __future__ import annotations

import pytest
import torch
from attribution_cases import positions_of
from slow_reference import small_model

from harness.circuits.circuit import Circuit
from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patched.forward import patched_logits
from harness.circuits.edges.ungroup import ungrouped
from harness.models.transformer import Transformer


def as_ungrouped(model: Transformer) -> Transformer:
    """The same function with keys and values of every head written out."""
    config = model.config
    each, width = config.n_heads // config.n_groups, config.d_head
    changed = {
        name: value for name, value in vars_of(config).items() if name != "n_key_value_heads"
    }
    whole = Transformer(type(config)(**changed)).to(model.embedding.dtype)
    weights = dict(model.named_parameters())
    for name in list(weights):
        if ".qkv_map." in name:
            parts = weights[name].unflatten(0, (-1, width))
            q, shared = parts[: config.n_heads], parts[config.n_heads :]
            weights[name] = torch.cat([q, shared.repeat_interleave(each, 0)]).flatten(0, 1)
    whole.load_state_dict(weights)
    return whole.requires_grad_(False)


def vars_of(config):
    return config.to_dict()


@pytest.mark.parametrize("per_token", [False, True])
def test_an_ungrouped_circuit_computes_the_same(per_token, random_batch):
    model, batch = small_model("grouped"), random_batch()
    whole, positions = as_ungrouped(model), positions_of(model, batch) if per_token else None
    graph = Graph.of(model.config, positions=positions)
    draw = torch.Generator().manual_seed(0)
    kept = (torch.rand(graph.allowed.shape, generator=draw) < 0.6) & graph.allowed
    scores = torch.randn(graph.allowed.shape, generator=draw) * graph.allowed
    spread = ungrouped(Circuit(graph, kept, scores, model.config.d_model), additive=True)
    assert spread.graph == Graph.of(whole.config, positions=positions)
    assert not spread.kept[~spread.graph.allowed].any()
    torch.testing.assert_close(spread.scores.sum(), scores.sum())
    found, wanted = (
        patched_logits(m, g, batch, mask[None], EdgeCounterfactuals(m, g, "interchange").of(batch))
        for m, g, mask in ((whole, spread.graph, spread.kept), (model, graph, kept))
    )
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_ranks_keep_their_order():
    """A probability is not shared out: every head's edge has its group's, so ranks as it did."""
    graph, whole = Graph(2, 4, n_groups=2), Graph(2, 4)
    draw = torch.Generator().manual_seed(0)
    scores = torch.rand(graph.allowed.shape, generator=draw) * graph.allowed
    spread = ungrouped(Circuit(graph, graph.allowed, scores), additive=False)
    assert spread.scores is not None
    for row, column in whole.edges():
        name = whole.edge_name(row, column)
        for head in range(4):
            for part in "kv":
                name = name.replace(f"h{head}<{part}>", f"g{head // 2}<{part}>")
        assert spread.scores[row, column] == scores[graph.edge_index(name)]
    order = scores[graph.allowed].unique()
    assert torch.equal(spread.scores[whole.allowed].unique(), order)


def test_without_groups_nothing_changes():
    graph = Graph(2, 3)
    circuit = Circuit(graph, graph.allowed)
    assert ungrouped(circuit, additive=False) is circuit
