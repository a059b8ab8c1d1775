"""Node scores against brute force, information flow routes against loops over their definition."""

from __future__ import annotations

import pytest
import torch
from support.problems import problem_of, scores_of
from support.slow_reference import ARCHITECTURES, SlowModel

from harness.circuits.select import top_n
from harness.discovery.patching import nodes as node_patching
from harness.metrics.logits import logit_diff

pytestmark = pytest.mark.matrix
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
every_input = pytest.mark.parametrize("inputs", ["token", "summed", "split", "none"])


def slow_metric(problem, mask):
    (batch,) = problem.batches
    slow = SlowModel(problem.model, problem.edges.graph.inputs)
    logits = slow.logits(batch.clean, batch.corrupted, mask)[:, -1:]
    return float(logit_diff(logits, batch).mean())


def node_scores(kind, problem, **params):
    """One score per writer; every edge of the writer must have it."""
    scores = scores_of(kind, problem, **params)
    allowed = problem.edges.graph.allowed
    nodes = scores[:, problem.edges.graph.logits_column]
    assert torch.equal(scores, nodes[:, None].where(allowed, 0))
    return nodes


@every_architecture
@every_input
def test_node_patching_is_brute_force(name, inputs, random_batch):
    """All edges of a writer dropped at once."""
    problem = problem_of(name, random_batch(), inputs=inputs)
    mask = problem.edges.graph.allowed.double()
    whole = slow_metric(problem, mask)
    wanted = []
    for row in range(problem.edges.graph.n_writers):
        without = mask.clone()
        without[row] = 0
        wanted.append(whole - slow_metric(problem, without))
    found = node_scores("node_patching", problem)
    torch.testing.assert_close(
        found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-10, atol=1e-11
    )


def test_node_patching_may_run_in_parts(random_batch, monkeypatch):
    problem = problem_of("gpt2-like", random_batch())
    whole = scores_of("node_patching", problem)
    monkeypatch.setattr(node_patching, "_CHUNK", 2 * problem.batches[0].clean.numel() * 12)
    torch.testing.assert_close(scores_of("node_patching", problem), whole, rtol=0, atol=1e-13)


@every_architecture
def test_node_attribution_is_the_gradient_of_a_whole_row(name, random_batch):
    """By central differences of one number that scales all edges of a writer."""
    problem = problem_of(name, random_batch())
    mask, step = problem.edges.graph.allowed.double(), 1e-5
    found = node_scores("node_attribution", problem)
    for row in range(problem.edges.graph.n_writers):
        gradients = []
        for sign in (1, -1):
            moved = mask.clone()
            moved[row] *= 1 + sign * step
            gradients.append(slow_metric(problem, moved))
        gradient = (gradients[0] - gradients[1]) / (2 * step)
        assert float(found[row]) == pytest.approx(gradient, rel=1e-5, abs=1e-8)


def test_integrated_node_scores_are_those_of_the_edges_together(random_batch):
    problem = problem_of("parallel", random_batch())
    found = node_scores("node_attribution", problem, steps=4)
    torch.testing.assert_close(found, scores_of("eap_ig", problem, steps=4).sum(1))


def test_tied_edges_of_a_node_go_to_early_readers_first(random_batch):
    """A circuit that holds a part of a node's edges holds the first ones."""
    problem = problem_of("gpt2-like", random_batch())
    space = problem.edges.space
    kept = space.matrix(top_n(space.flat(scores_of("node_patching", problem)), 10))
    for row in kept.any(1).nonzero().flatten().tolist():
        edges = kept[row][problem.edges.graph.allowed[row]]
        assert torch.equal(edges, edges.sort(descending=True, stable=True).values)


@every_architecture
@every_input
def test_information_flow_is_the_share_of_proximity(name, inputs, random_batch):
    """Every reader, prompt and position on its own; biases and positions belong to nobody."""
    batch = random_batch()
    problem = problem_of(name, batch, inputs=inputs)
    model, graph = problem.model, problem.edges.graph
    everything = graph.allowed.double()
    slow = SlowModel(model, inputs)
    written, _ = slow.writers(batch.clean, everything, None)
    written = losses(slow, graph, written) if model.config.post_norms else written
    streams = plain_streams(model, batch.clean)
    wanted = torch.zeros(graph.allowed.shape, dtype=torch.float64)
    for column, reader in enumerate(graph.readers):
        stream = streams[reader.split(".")[0].split("<")[0]]
        rows = graph.allowed[:, column].nonzero().flatten().tolist()
        for prompt in range(len(batch)):
            for position in range(batch.clean.shape[1]):
                y = stream[prompt, position]
                near = [
                    max(
                        0.0, float(y.abs().sum() - (y - written[row][prompt, position]).abs().sum())
                    )
                    for row in rows
                ]
                for row, proximity in zip(rows, near, strict=True):
                    if proximity > 0:
                        wanted[row, column] += proximity / sum(near) / batch.clean.numel()
    found = scores_of("information_flow_routes", problem)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    shares = found.sum(0)[found.any(0)]
    assert shares.max() < 1 + 1e-12  # less where no writer is near at some position


def losses(slow, graph, written):
    """What the stream loses without each writer, a head being taken out before its layer's norm."""
    lost = list(written)
    for layer in range(graph.n_layers):
        rows = range(graph.head_rows(layer).start, graph.head_rows(layer).stop)
        whole = sum(written[row] for row in rows) + slow.w[f"blocks.{layer}.out_map.bias"]
        norm = f"blocks.{layer}.attention_post_norm"
        for row in rows:
            lost[row] = slow.norm_of(norm, whole) - slow.norm_of(norm, whole - written[row])
    return lost


def plain_streams(model, tokens):
    """What every layer's attention (`a0`) and MLP (`m0`) and `logits` read, by plain blocks."""
    x, streams = model.start(tokens), {}
    for layer, block in enumerate(model.layers()):
        after = x + block.add_attention(block.project(block.heads(x)))
        streams[f"a{layer}"] = x
        streams[f"m{layer}"] = x if model.config.parallel else after
        x = block(x)
    return {**streams, "logits": x}
