"""True interventions: changes are those of the model, and exact where nothing has to be held."""

from __future__ import annotations

import pytest
import torch
from support.slow_reference import small_model
from support.traces import CODES, LENGTH, dictionaries, run_of, tokens

from harness.models.sites import tapped_run
from harness.tracing.keep import KeepRule
from harness.tracing.run import FrozenRun, frozen_run
from harness.tracing.score_removals import _Score, score_removals
from harness.tracing.target import score_target, single_logit
from harness.tracing.trace import PromptTrace, trace
from harness.tracing.validity import _Read, _removals, validity

ALL = KeepRule("abs", 0)


def traced(run: FrozenRun) -> PromptTrace:
    return trace(run, single_logit(run, "logit", 3, LENGTH - 1), keep=ALL, nodes=200)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", ["gpt2-like", "gemma-like"])
def test_every_kind_is_measured(name, code):
    run, _ = run_of(name, code)
    rows = {row.kind: row for row in validity([traced(run)], 6)}
    expected = {"logit", "query", "key", "total"}
    if code != "modules":
        expected.add("mlp")
    if code == "dictionaries":
        expected |= {"ov", "ov_pattern"}
    assert rows.keys() == expected
    for row in rows.values():
        assert row.n >= 3
        assert -1 <= row.spearman <= 1
        assert row.pearson > (0.5 if row.kind == "logit" else -1), row


def test_without_norms_and_gates_contributions_are_the_truth():
    """A model that is linear but for its patterns: all but these predict exactly."""
    model = small_model("no-norm-bidirectional", activation="relu", n_layers=1)
    for block in model.layers():
        block.mlp_in.weight.mul_(0.01)
        block.mlp_in.bias.fill_(5)  # no gate closes
    run = frozen_run(model, tokens(), dictionaries(model, "a.out", "m.out"))
    rows = {row.kind: row for row in validity([traced(run)], 8)}
    for kind in ("logit", "mlp", "ov"):
        assert rows[kind].pearson == pytest.approx(1)
        assert rows[kind].spearman == pytest.approx(1)
        assert rows[kind].coefficient == pytest.approx(1)
    for kind in ("query", "key"):
        assert rows[kind].coefficient == pytest.approx(1)
    assert rows["ov_pattern"].pearson < 0.9999
    assert rows["mlp"].blind == 0


def test_neurons_that_a_part_turned_on_are_the_blind_spot():
    """Counted neuron by neuron, for a feature of an MLP."""
    run, _ = run_of("gpt2-like", "dictionaries")
    at = run.writer_of("m1")
    read = _Read(run, at, 4, 0)
    columns = (run.units[4, : run.offsets[run.writers[at].below]] >= 0).nonzero().flatten()
    rows = torch.full_like(columns, 4)
    _, shares = read.after_mlp(rows, columns)
    block = list(run.model.layers())[1]
    encoder = run.writers[at].reading.encoders[4, 0]
    any_turned = 0
    for share, vector in zip(shares.tolist(), run.vectors(rows, columns), strict=True):
        inner, without = (
            block.mlp_in(block.mlp_norm(x)) for x in (read.stream[4], read.stream[4] - vector)
        )
        hidden, other = block.activation(inner), block.activation(without)
        effects = [
            abs(float((hidden[n] - other[n]) * (encoder @ block.mlp_out.weight[:, n])))
            for n in range(20)
        ]
        turned = [(float(inner[n]) > 0) != (float(without[n]) > 0) for n in range(20)]
        any_turned += any(turned)
        expected = sum(e for e, t in zip(effects, turned, strict=True) if t) / sum(effects)
        assert share == pytest.approx(expected)
    assert any_turned >= 3


def test_changes_are_those_of_the_model_without_the_part():
    run, _ = run_of("gpt2-like", "dictionaries")
    graph = traced(run)
    by_kind = {kind: (predicted, true) for kind, predicted, true, _ in _removals(graph, 4)}
    predicted, true = by_kind["total"]
    order = sorted(range(len(graph.nodes)), key=lambda at: -abs(graph.nodes[at].influence))
    plain = run.model(run.tokens[None])[0, 5]
    for at, one, change in list(zip(order, predicted.tolist(), true.tolist(), strict=False))[:6]:
        node = graph.nodes[at]
        assert one == -node.influence
        site = run.site_of(node.place.writer)
        vector = run.writers[node.place.writer].vectors(
            torch.tensor([node.place.token]), torch.tensor([node.place.column])
        )[0]

        def tap(name, value, site=site, vector=vector, token=node.place.token):
            if name != site:
                return value
            value = value.clone()
            value[0, token] -= vector
            return value

        final = tapped_run(run.model, run.tokens[None], tap)
        logits = run.model.to_logits(final, run.tokens[None])[0, 5]
        expected = float((logits - plain)[3] - (logits - plain).mean())
        assert change == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", ["gpt2-like", "gemma-like", "windowed-capped"])
def test_scores_without_a_part_are_those_of_changed_queries_or_keys(name):
    """Recomputed by hand, from the pattern of a run of attention alone."""
    run, _ = run_of(name, "dictionaries")
    query, heads = LENGTH - 1, run.model.config.n_heads
    found = list(score_removals(run, query, 5))
    assert len(found) == 2 * heads * run.model.config.n_layers
    for layer in range(run.model.config.n_layers):
        frozen, block = run.frozen.scores[layer], list(run.model.layers())[layer]
        below = run.writers[run.writer_of(f"a{layer}")].below
        stream = run.stream(below)
        for head in range(heads):
            key = int(frozen.pattern[head, query].argmax())
            at = 2 * (layer * heads + head)
            for (side, predicted, _), own in zip(found[at : at + 2], ("query", "key"), strict=True):
                assert side == own
                target = score_target(run, layer, head, query, key)
                full = target.value
                # Both sides are the same sum, without what biases give.
                assert predicted.abs().max() <= 20 * max(1, abs(full))
                assert 1 <= len(predicted) <= 5
            # The largest part of the query, out of the stream of the query alone.
            influence = _Score(run, block, head, query, below, stream)._direction("query")
            parts = run.influence(influence[None], below)[0]
            place = int(parts.abs().flatten().argmax())
            row, column = divmod(place, parts.shape[1])
            assert row == query
            vector = run.vectors(torch.tensor([row]), torch.tensor([column]))[0]
            moved = stream.clone()
            moved[query] -= vector
            side = frozen.queries
            read = block.read(moved[None])[0, query, head]
            if block.config.qk_norm:
                read = block.query_norm(read)
            if side.turn is not None:
                read = read @ side.turn[query]
            score = frozen.keys.final[head // frozen.shared_by] @ read * frozen.scale
            plain = (
                frozen.keys.final[head // frozen.shared_by] @ side.final[head, query] * frozen.scale
            )
            if (cap := block.config.attention_softcap) is not None:
                score, plain = (cap * torch.tanh(x / cap) for x in (score, plain))
            seen = frozen.seen[query]
            gap = (score - plain)[key] - (score - plain)[seen].mean()
            assert float(found[at][2][0]) == pytest.approx(float(gap), abs=1e-10)
            assert float(found[at][1][0]) == pytest.approx(-float(parts[row, column]), abs=1e-12)
