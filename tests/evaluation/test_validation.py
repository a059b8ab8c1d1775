"""Attention in circuits, deltas of drawings and excluded elements, against runs made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.channels import PAIRS, ZERO, gated, random_kept, thinned
from support.slow_reference import small_model

from harness.circuits.excluding import Excluding
from harness.circuits.gates.wiring import matrices
from harness.datasets.batch import Batches
from harness.errors import HarnessError
from harness.evaluation.setup import Setup
from harness.evaluation.validation.attention import attention_match
from harness.evaluation.validation.deltas import deltas
from harness.metrics.logits import task_loss
from harness.models.sites import tapped_run

NAMES = ("gpt2-like", "sinks-bigrams", "windowed-capped", "gemma-like")


def setup_of(name: str, share: float = 1.0, **changes: int) -> Setup:
    model = thinned(small_model(name, d_vocab=6, **changes), share)
    patchable, batches = gated(model), Batches(PAIRS, 4)
    return Setup(patchable, batches, patchable.counterfactuals(ZERO, list(batches), 0), ZERO)


@pytest.mark.parametrize("name", NAMES)
def test_patterns_are_what_heads_mix_values_by(name):
    """Of values v the heads' outputs are pattern @ v; each row sums to 1 with the sink's share."""
    setup = setup_of(name)
    patchable, batch, config = setup.patchable, setup.batches[0], setup.model.config
    kept = random_kept(setup.space, 0.7)
    counterfactual = setup.counterfactuals.of(batch)
    patterns = patchable.patterns(batch, kept, counterfactual)
    gate, values = patchable._tap(kept[None], counterfactual), {}

    def tap(site, value):
        values[site] = gate(site, value).expand(*batch.clean.shape, -1)
        return gate(site, value)

    tapped_run(setup.model, batch.clean, tap)
    for layer, pattern in enumerate(patterns):
        assert pattern.sum(-1).allclose(torch.ones(()).double())
        v = values[f"a{layer}.v"].unflatten(-1, (config.n_groups, -1)).transpose(1, 2)
        v = v.repeat_interleave(config.n_heads // config.n_groups, 1)
        z = (pattern[..., :-1] @ v).transpose(1, 2).flatten(-2)
        torch.testing.assert_close(z, values[f"a{layer}.z"], rtol=1e-6, atol=1e-9)
        if not config.attention_sink:
            assert float(pattern[..., -1].abs().max()) < 1e-9


def test_attention_is_compared_head_by_head():
    setup = setup_of("sinks-bigrams", n_key_value_heads=4)
    everything = torch.ones(len(setup.space), dtype=torch.bool)
    same = attention_match(setup, everything)
    assert same is not None
    assert same["kl"]["value"] == pytest.approx(0, abs=1e-9)
    assert same["correlation"] == pytest.approx(1)
    assert len(same["heads"]) == setup.model.config.n_layers * setup.model.config.n_heads
    # Values alone: the pattern is that of queries and keys that are all zero.
    kept = torch.zeros_like(everything)
    kept[setup.space.index("a1.v.0")] = True
    match = attention_match(setup, kept)
    assert match is not None
    (head,) = match["heads"]
    assert head["name"] == "a1.h0"
    assert head["kl"] == pytest.approx(head["empty_kl"])
    divergences = []
    for batch in setup.batches:
        runs = [
            setup.patchable.patterns(batch, mask, setup.counterfactuals.of(batch))[1][:, 0]
            for mask in (everything, kept)
        ]
        p, q = (one.clamp(min=1e-9) for one in runs)
        divergences += (p * (p.log() - q.log())).sum(-1).mean(-1).tolist()
    assert match["kl"]["value"] == pytest.approx(np.mean(divergences))
    final = torch.zeros_like(everything)
    final[setup.space.index("final.0")] = True
    assert attention_match(setup, final) is None


def test_deltas_are_differences_of_runs_with_one_part_less():
    setup = setup_of("sinks-bigrams", 0.4, n_key_value_heads=4)
    kept = random_kept(setup.space, 0.25, seed=2)
    found = deltas(setup, kept)

    def loss(one: torch.Tensor) -> float:
        losses = []
        for batch in setup.batches:
            counterfactual = setup.counterfactuals.of(batch)
            losses.append(
                task_loss(setup.patchable.logits(batch, one[None], counterfactual)[0], batch)
            )
        return float(torch.cat(losses).mean())

    assert found.loss == pytest.approx(loss(kept))
    assert set(found.channels) == {setup.space.name(e) for e in kept.nonzero().flatten().tolist()}
    for name, delta in found.channels.items():
        smaller = kept.clone()
        smaller[setup.space.index(name)] = False
        assert delta == pytest.approx(loss(smaller) - loss(kept), abs=1e-9)
    assert len(found.weights) == setup.space.counts(kept)["weights"]
    for block in setup.model.layers():
        for one in matrices(block):
            for (source, target), delta in found.weights.items():
                if (source.rpartition(".")[0], target.rpartition(".")[0]) != one[:2]:
                    continue
                at = int(target.rpartition(".")[2]), int(source.rpartition(".")[2])
                before = float(one.weight[at])
                assert before
                one.weight.data[at] = 0
                assert delta == pytest.approx(loss(kept) - found.loss, abs=1e-9)
                one.weight.data[at] = before
    assert max(map(abs, found.weights.values())) > 0


def test_deltas_need_two_answers_and_values_of_their_own():
    setup = setup_of("gpt2-like")
    kept = random_kept(setup.space, 0.1)
    one_sided = [replace(b, bad=torch.full_like(b.bad, -1)) for b in setup.batches]
    with pytest.raises(HarnessError, match="needs good and bad answers"):
        deltas(replace(setup, batches=one_sided), kept)
    grouped = setup_of("gemma-like")
    with pytest.raises(HarnessError, match="heads that share values"):
        deltas(grouped, random_kept(grouped.space, 0.1))


def test_what_is_excluded_is_ablated_and_learns_nothing():
    setup = setup_of("gpt2-like")
    batch = setup.batches[0]
    counterfactual = setup.counterfactuals.of(batch)
    allowed = random_kept(setup.space, 0.5)
    excluding = Excluding(setup.patchable, allowed)
    masks = torch.stack([random_kept(setup.space, 0.8, seed) for seed in range(3)])
    wanted = setup.patchable.logits(batch, masks & allowed, counterfactual)
    assert torch.equal(excluding.logits(batch, masks, counterfactual), wanted)
    soft = masks.double().mul(0.7).requires_grad_()
    logits = excluding.masked_logits(batch, soft, counterfactual)
    inner = setup.patchable.masked_logits(batch, soft.detach() * allowed, counterfactual)
    torch.testing.assert_close(logits, inner)
    logits.square().sum().backward()
    assert soft.grad is not None
    assert (soft.grad[:, ~allowed] == 0).all()
    assert (soft.grad[:, allowed] != 0).any()
