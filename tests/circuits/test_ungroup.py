"""Groups spread over heads: the same computation, scores that add up to the same."""

from __future__ import annotations

import pytest
import torch
from support.problems import positions_of
from support.slow_reference import small_model

from harness.circuits.circuit import Circuit
from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.edges.space import EdgeSpace
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
    space = EdgeSpace(Graph.of(model.config, positions=positions))
    draw = torch.Generator().manual_seed(0)
    kept = torch.rand(len(space), generator=draw) < 0.6
    scores = torch.randn(len(space), generator=draw)
    circuit = Circuit(space, kept, scores, model.config.d_model)
    spread = ungrouped(circuit, additive=True)
    assert spread.space == EdgeSpace(Graph.of(whole.config, positions=positions))
    assert spread.kept.shape == spread.scores.shape == (len(spread.space),)
    torch.testing.assert_close(spread.scores.sum(), scores.sum())
    assert spread.size > circuit.size  # some edges into groups are kept

    def logits(model, circuit):
        graph = circuit.space.graph
        counterfactual = EdgeCounterfactuals(model, graph, "interchange").of(batch)
        return EdgeModel(model, graph).logits(batch, circuit.kept[None], counterfactual)

    torch.testing.assert_close(
        logits(whole, spread), logits(model, circuit), rtol=1e-10, atol=1e-10
    )


def test_ranks_keep_their_order():
    """A probability is not shared out: every head's edge has its group's, so ranks as it did."""
    space, whole = EdgeSpace(Graph(2, 4, n_groups=2)), EdgeSpace(Graph(2, 4))
    scores = torch.rand(len(space), generator=torch.Generator().manual_seed(0))
    spread = ungrouped(Circuit(space, scores >= 0, scores), additive=False)
    assert spread.space == whole
    assert spread.scores is not None
    for edge in range(len(whole)):
        name = whole.name(edge)
        for head in range(4):
            for part in "kv":
                name = name.replace(f"h{head}<{part}>", f"g{head // 2}<{part}>")
        assert spread.scores[edge] == scores[space.index(name)]
    assert torch.equal(spread.scores.unique(), scores.unique())
    assert spread.kept.all()


def test_without_groups_nothing_changes():
    space = EdgeSpace(Graph(2, 3))
    circuit = Circuit(space, torch.ones(len(space), dtype=torch.bool))
    assert ungrouped(circuit, additive=False) is circuit
