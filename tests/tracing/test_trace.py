"""Traces: edges are what the keep rule says, sums are whole, ids are unique, scores are exact."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.traces import CODES, LENGTH, dictionaries, model_of, of_names, run_of, tokens

from harness.errors import HarnessError
from harness.tracing.document import circuit_tracer_data, trace_data
from harness.tracing.influence import total_influence
from harness.tracing.keep import KeepRule
from harness.tracing.query_key import score_pairs
from harness.tracing.run import FrozenRun, Place, frozen_run
from harness.tracing.scores import graph_scores
from harness.tracing.target import Target, find_unit, part_target, score_target, single_logit
from harness.tracing.trace import PromptTrace, trace

pytestmark = pytest.mark.matrix
every_architecture = pytest.mark.parametrize("name", of_names())
everything = pytest.mark.parametrize(
    ("name", "code"),
    of_names("dictionaries")
    + [(name, code) for name in ("gpt2-like", "gemma-like", "parallel") for code in CODES[1:]],
)
"""Every architecture, and every way to take some of them apart."""
ALL = KeepRule("abs", 0)


def logit(run: FrozenRun) -> Target:
    return single_logit(run, "logit", 3, LENGTH - 1)


def traced(name: str, code: str, **choices: object) -> PromptTrace:
    run, _ = run_of(name, code)
    return trace(run, logit(run), **choices)  # type: ignore[arg-type]


# ---------------------------------------------------------------- keep rules
numbers = st.lists(st.floats(-10, 10), min_size=1, max_size=30)


@given(numbers, st.sampled_from(["abs:0.5", "rel:0.05", "topk:3", "cum:0.8"]))
def test_rules_keep_what_they_say(values, text):
    rule = KeepRule.parse(text)
    one = torch.tensor([values], dtype=torch.float64)
    kept = rule.kept(one)[0].tolist()
    sizes = [abs(value) for value in values]
    total = sum(sizes)
    left_out = [size for size, keep in zip(sizes, kept, strict=True) if not keep]
    inside = [size for size, keep in zip(sizes, kept, strict=True) if keep]
    assert all(inside)
    assert max(left_out, default=0) <= min(inside, default=10)
    if rule.kind == "abs":
        assert kept == [size >= 0.5 for size in sizes]
    elif rule.kind == "topk":
        assert len(inside) >= min(3, sum(size > 0 for size in sizes))
    elif rule.kind == "cum":
        assert sum(inside) >= 0.8 * total - 1e-9
        assert not inside or sum(inside) - min(inside) < 0.8 * total + 1e-9


def test_chance_is_a_share_of_what_other_prompts_contribute():
    chance = torch.arange(1.0, 101.0)[None] * torch.tensor([[-1.0, 1.0]]).repeat(1, 50)
    one = torch.tensor([[-95.5, 95.5, 94.5, 96.5, 0.0]])
    expected = [[True, True, False, True, False]]
    assert KeepRule("null", 0.05).kept(one, chance).tolist() == expected
    # Where there is no part, or where the target does not read, nothing is contributed.
    nothing = torch.zeros(1, 900)
    assert KeepRule("null", 0.05).kept(one, torch.cat([chance, nothing], 1)).tolist() == expected
    assert KeepRule("null", 0.05).kept(one, nothing).tolist() == [[True, True, True, True, False]]


@pytest.mark.parametrize("text", ["rel", "rel:x", "rel:2", "topk:0", "topk:1.5", "null:0"])
def test_other_rules_are_refused(text):
    with pytest.raises(HarnessError, match="no rule to keep contributions"):
        KeepRule.parse(text)


# ---------------------------------------------------------------- graphs
@everything
def test_every_edge_is_what_its_source_contributes(name, code):
    """With everything kept, edges into a node are all contributions, and sums come out."""
    graph = traced(name, code, keep=ALL, nodes=10**6)
    run = graph.run
    incoming: dict[int | None, float] = Counter()
    for edge in graph.edges:
        incoming[edge.into] += edge.weight
        if edge.heads:
            assert sum(edge.heads.values()) == pytest.approx(edge.weight, abs=1e-10)
    target = graph.sums
    assert incoming[None] + target.constant == pytest.approx(graph.target.value, abs=1e-10)
    assert target.positive + target.negative == pytest.approx(incoming[None], abs=1e-10)
    for at, node in enumerate(graph.nodes):
        if node.sums is None:
            assert node.kind in ("embed", "position", "error", "bias")
            continue
        value = node.influence if node.activity is None else node.activity
        assert node.sums.value == pytest.approx(value, abs=1e-10)
        assert incoming[at] + node.sums.constant == pytest.approx(value, abs=1e-10)
        assert node.sums.kept == pytest.approx(1) or run.model.config.norm == "none"
    assert all(edge.into is None or edge.source < edge.into for edge in graph.edges)


@pytest.mark.parametrize("code", CODES)
def test_influence_is_the_sum_over_all_paths(code):
    """Products of edges' shares along all paths to the target are the total influence."""
    graph = traced("gpt2-like", code, keep=ALL, nodes=10**6)
    along = [0.0] * len(graph.nodes)
    direct = dict.fromkeys(range(len(graph.nodes)), 0.0)
    for edge in graph.edges:
        if edge.into is None:
            direct[edge.source] += edge.weight
    into = {}
    for edge in graph.edges:
        if edge.into is not None:
            into.setdefault(edge.source, []).append(edge)
    for at in reversed(range(len(graph.nodes))):
        along[at] = direct[at]
        for edge in into.get(at, ()):
            sums = graph.nodes[edge.into].sums
            if abs(sums.value) > 1e-12:
                along[at] += edge.weight / sums.value * along[edge.into]
        assert along[at] == pytest.approx(graph.nodes[at].influence, abs=1e-8)


def test_edges_are_contributions_of_one_part_to_another():
    graph = traced("gpt2-like", "dictionaries", keep=KeepRule("topk", 4), nodes=40)
    run = graph.run
    assert 0 < len(graph.nodes) <= 40
    per_node = Counter(edge.into for edge in graph.edges)
    assert max(per_node.values()) <= 4
    for edge in graph.edges:
        if edge.into is None:
            continue
        into, source = graph.nodes[edge.into], graph.nodes[edge.source]
        target = part_target(run, into.place)
        every = run.influence(target.stream[None], target.below)[0]
        column = run.offsets[source.place.writer] + source.place.column
        expected = float(every[source.place.token, column])
        assert edge.weight == pytest.approx(expected, abs=1e-12)


def test_nodes_are_the_parts_of_largest_influence():
    graph = traced("gpt2-like", "dictionaries", keep=ALL, nodes=25)
    sizes = total_influence(graph.run, graph.target).parts.abs().flatten().sort().values
    assert len(graph.nodes) <= 25
    assert min(abs(node.influence) for node in graph.nodes) >= float(sizes[-25]) - 1e-12


def test_hierarchical_attribution_keeps_what_works_for_the_target():
    run, _ = run_of("gpt2-like", "dictionaries")
    target = logit(run)
    plain = total_influence(run, target)
    every = total_influence(run, target, above=-1e9)
    torch.testing.assert_close(every.parts, plain.parts)
    strict = total_influence(run, target, above=0.05)
    assert strict.budget["cut"] != 0
    assert sum(strict.budget.values()) == pytest.approx(target.value, abs=1e-10)
    nothing = total_influence(run, target, above=1e9)
    direct = run.influence(target.stream[None], target.below)[0]
    torch.testing.assert_close(nothing.parts, direct)


def test_parts_beyond_chance_need_other_prompts():
    run, codes = run_of("gpt2-like", "dictionaries")
    others = [frozen_run(run.model, tokens(seed), codes) for seed in (11, 12, 13)]
    graph = trace(run, logit(run), keep=KeepRule("null", 0.05), nodes=10**6, others=others)
    stream, below = graph.target.stream[None], graph.target.below
    chance = torch.cat([one.influence(stream, below).abs().flatten() for one in others])
    own = [abs(edge.weight) for edge in graph.edges if edge.into is None]
    assert own
    chance = chance[chance > 0]
    assert all(float((chance >= weight).float().mean()) <= 0.05 for weight in own)
    with pytest.raises(HarnessError, match="other prompts"):
        trace(run, logit(run), keep=KeepRule("null", 0.05))


def test_features_and_scores_are_traced_too():
    run, _ = run_of("gpt2-like", "dictionaries")
    place = next(
        Place(at, 5, 0) for at, one in enumerate(run.writers) if one.name == "a1" and one.own
    )
    name = run.name(place)
    writer, unit = name.partition("@")[0].split(".")
    target = part_target(run, find_unit(run, writer, int(unit), 5))
    graph = trace(run, target, keep=ALL, nodes=10**6)
    assert graph.target.name == name
    assert all(sum(e.heads.values()) == pytest.approx(e.weight) for e in graph.edges if not e.into)
    score = trace(run, score_target(run, 1, 2, 5, 3), keep=ALL, nodes=10**6)
    assert sum(score.budget.values()) == pytest.approx(score.target.value, abs=1e-10)


# ---------------------------------------------------------------- attention scores
@every_architecture
@pytest.mark.parametrize("from_mean", [True, False])
def test_pairs_of_parts_sum_to_the_score(name, from_mean):
    run, _ = run_of(name, "dictionaries")
    layer, head = run.model.config.n_layers - 1, 1
    target = score_target(run, layer, head, 5, 4, from_mean=from_mean)
    pairs = score_pairs(run, layer, head, 5, 4, from_mean=from_mean)
    assert pairs.score == pytest.approx(target.value, abs=1e-10)
    assert len(pairs.queries) == pairs.pairs.shape[0]
    assert len({*pairs.keys}) == len(pairs.keys) == pairs.pairs.shape[1]
    # The query's side is what is traced through the query, twice the half of it.
    scores = run.frozen.scores[layer]
    mixed = scores.key_weights(head, 5, 4, from_mean) @ scores.keys.final[head // scores.shared_by]
    stream, constant = scores.queries.adjoint(mixed[None], torch.tensor([5]), head)
    own = run.influence_at(stream, torch.tensor([5]), target.below)[0]
    for place, value in zip(pairs.places, pairs.of_queries.tolist(), strict=False):
        column = run.offsets[place.writer] + place.column
        assert value == pytest.approx(float(own[column]), abs=1e-10)
    assert float(pairs.of_queries[-1]) == pytest.approx(float(constant), abs=1e-10)
    assert float(pairs.of_keys.sum()) == pytest.approx(target.value, abs=1e-10)
    largest = pairs.largest(3)
    assert abs(largest[0][2]) == pytest.approx(float(pairs.pairs.abs().max()))


def test_what_all_keys_share_does_not_count():
    """Less the mean over keys, biases of keys contribute nothing where positions do not turn."""
    run, _ = run_of("gpt2-like", "dictionaries")
    pairs = score_pairs(run, 1, 0, 5, 2)
    bias = run.frozen.scores[1].keys
    assert float(bias.constant(torch.tensor([2]), 0).abs().max()) > 0
    assert float(pairs.of_keys[-1]) == pytest.approx(0, abs=1e-12)


# ---------------------------------------------------------------- scores and files
@pytest.mark.parametrize("code", CODES)
def test_scores_are_those_of_the_inverse_matrix(code):
    graph = traced("gpt2-like", code, keep=KeepRule("topk", 6), nodes=60)
    scores = graph_scores(graph)
    size = len(graph.nodes) + 1
    A = torch.zeros(size, size, dtype=torch.float64)
    for edge in graph.edges:
        A[size - 1 if edge.into is None else edge.into, edge.source] += abs(edge.weight)
    A = A / A.sum(1, keepdim=True).clamp(min=1e-30)
    w = torch.zeros(size, dtype=torch.float64)
    w[-1] = 1
    eye = torch.eye(size, dtype=torch.float64)
    influence = w @ (torch.linalg.inv(eye - A) - eye)
    torch.testing.assert_close(
        torch.tensor(scores.influence, dtype=torch.float64), influence[:-1], rtol=0, atol=1e-12
    )
    kinds = [node.kind for node in graph.nodes]
    errors = torch.tensor([kind == "error" for kind in [*kinds, ""]])
    tokens_of = torch.tensor([kind in ("embed", "position") for kind in [*kinds, ""]])
    both = influence[errors].sum(), influence[tokens_of].sum()
    assert scores.replacement == pytest.approx(float(both[1] / (both[0] + both[1])))
    output = influence + w
    complete = ((1 - A[:, errors].sum(1)) * output).sum() / output.sum()
    assert scores.completeness == pytest.approx(float(complete))
    if code in ("neurons", "modules"):
        assert scores.replacement == scores.completeness == 1


@everything
def test_files_hold_the_graph_and_ids_are_unique(name, code):
    graph = traced(name, code, keep=KeepRule("topk", 5), nodes=80)
    scores = graph_scores(graph)
    meanings = [f"meaning {at}" if node.unit else "" for at, node in enumerate(graph.nodes)]
    data = json.loads(json.dumps(trace_data(graph, scores, meanings), allow_nan=False))
    assert [node["stands_for"] for node in data["nodes"]] == meanings
    assert len({node["name"] for node in data["nodes"]}) == len(graph.nodes)
    assert len(data["edges"]) == len(graph.edges)
    assert {edge["kind"] for edge in data["edges"]} <= {"logit", "ov", "mlp"}
    texts = [str(token) for token in graph.run.tokens.tolist()]
    other = circuit_tracer_data(graph, scores, meanings, "one", texts)
    named = [
        f"{node.name} {text}".rstrip() for node, text in zip(graph.nodes, meanings, strict=True)
    ]
    assert [node["clerp"] for node in other["nodes"][:-1]] == named
    json.dumps(other, allow_nan=False)
    ids = [node["node_id"] for node in other["nodes"]]
    assert len({*ids}) == len(ids) == len(graph.nodes) + 1
    assert {link[end] for link in other["links"] for end in ("source", "target")} <= {*ids}
    (target,) = [node for node in other["nodes"] if node["is_target_logit"]]
    assert 0 < target["token_prob"] < 1
    layers = {node["layer"] for node in other["nodes"]} - {"E"}
    assert all(0 <= int(layer) <= 2 * graph.run.model.config.n_layers for layer in layers)


# ---------------------------------------------------------------- runs of several prompts
@pytest.mark.parametrize(("name", "code"), [*of_names("dictionaries"), ("gemma-like", "hidden")])
def test_all_features_are_traced_as_the_active_ones_are(name, code):
    run, codes = run_of(name, code)
    every = frozen_run(run.model, run.tokens[None], codes)
    one, other = (trace(each, logit(each), nodes=400) for each in (run, every))
    assert one.budget == pytest.approx(other.budget, abs=1e-10)
    assert edges_by_name(one) == pytest.approx(edges_by_name(other), abs=1e-10)


def edges_by_name(graph: PromptTrace) -> dict[tuple[str, str], float]:
    def name(at: int | None) -> str:
        return "target" if at is None else graph.nodes[at].name

    return {(name(edge.source), name(edge.into)): edge.weight for edge in graph.edges}


def test_a_trace_is_of_one_prompt():
    model = model_of("gpt2-like")
    both = frozen_run(model, torch.stack([tokens(), tokens(5)]), dictionaries(model, "m.out"))
    with pytest.raises(HarnessError, match="of one prompt; this run is of 2"):
        trace(both, logit(both))
