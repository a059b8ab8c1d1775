"""Patchable models of edges: flat masks give the passes of their matrices; gradients; refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.problems import positions_of
from support.slow_reference import ARCHITECTURES, POST_NORMS, small_model
from support.toy_task import CHOICES, FirstToken

from harness.circuits.edges.counterfactuals import EdgeCounterfactuals
from harness.circuits.edges.graph import Graph
from harness.circuits.edges.patchable import EdgeModel
from harness.circuits.edges.patched.backward import masked_logits
from harness.circuits.patchable import (
    Attributing,
    make_patchable,
    mask_gradient,
    plain_logits,
    self_check,
)
from harness.errors import HarnessError, NotFound
from harness.metrics import LOSSES

pytestmark = pytest.mark.matrix
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


class Case:
    """A model, prompts, and the edges that all positions share or that each has of its own."""

    def __init__(self, name, batch, *, per_token=False, ablation="interchange"):
        self.model, self.batch = small_model(name), batch
        positions = positions_of(self.model, batch) if per_token else None
        self.edges = EdgeModel(self.model, Graph.of(self.model.config, positions=positions))
        counterfactuals = EdgeCounterfactuals(
            self.model, self.edges.graph, ablation, mean_over=[batch]
        )
        self.counterfactual = counterfactuals.of(batch)
        whole = plain_logits(self.model, batch)
        self.loss = lambda logits: LOSSES["logit_diff"](logits, whole, batch)

    def random(self, sets=3):
        draw = torch.Generator().manual_seed(0)
        return torch.rand(sets, len(self.edges.space), generator=draw, dtype=torch.float64)


# ---------------------------------------------------------------- flat masks
@pytest.mark.parametrize("per_token", [False, True])
@every_architecture
def test_flat_masks_give_the_logits_of_their_matrices_bit_by_bit(name, per_token, random_batch):
    case = Case(name, random_batch(), per_token=per_token)
    edges, batch, masks = case.edges, case.batch, case.random()
    for some in (masks < 0.6, masks):
        matrices = edges.space.matrix(some)
        wanted = edges.patched.logits(batch, matrices, case.counterfactual)
        assert torch.equal(edges.logits(batch, some, case.counterfactual), wanted)
    leaf, matrices = masks.requires_grad_(), edges.space.matrix(masks).detach().requires_grad_()
    logits = edges.masked_logits(batch, leaf, case.counterfactual)
    wanted = masked_logits(edges.patched, batch, matrices, case.counterfactual)
    assert torch.equal(logits, wanted)
    (found,) = torch.autograd.grad(logits.square().sum(), leaf)
    (of_matrices,) = torch.autograd.grad(wanted.square().sum(), matrices)
    assert torch.equal(found, edges.space.flat(of_matrices))


def test_gradients_at_exact_zeros_may_be_left_out(random_batch):
    """Nodes that no mask needs are not run then; the logits and all other gradients stay."""
    case = Case("gpt2-like", random_batch())
    zero = case.random(1) < 0.9
    masks = case.random(1).masked_fill(zero, 0)
    gradients = []
    for exact_zeros in (False, True):
        leaf = masks.clone().requires_grad_()
        logits = case.edges.masked_logits(
            case.batch, leaf, case.counterfactual, exact_zeros=exact_zeros
        )
        gradients.append(torch.autograd.grad(logits.square().sum(), leaf)[0])
    full, sparse = gradients
    torch.testing.assert_close(sparse[~zero], full[~zero], rtol=1e-9, atol=1e-11)
    assert (sparse[zero] == 0).sum() > (full[zero] == 0).sum()


# ---------------------------------------------------------------- gradients of the mask
@pytest.mark.parametrize("per_token", [False, True])
@every_architecture
def test_attribution_is_the_gradient_at_the_full_mask(name, per_token, random_batch):
    """[5] By one plain forward and backward, and by the masked pass."""
    case = Case(name, random_batch(), per_token=per_token)
    assert isinstance(case.edges, Attributing)
    everything = torch.ones(len(case.edges.space), dtype=torch.float64)
    arguments = case.batch, case.loss, case.counterfactual
    wanted = mask_gradient(case.edges, *arguments, everything)
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(case.edges.attribute(*arguments), wanted, rtol=1e-9, atol=1e-11)


def test_the_gradient_of_a_mask_is_that_of_central_differences(random_batch):
    case = Case("gpt2-like", random_batch())
    mask, step = case.random(1)[0], 1e-5
    with torch.no_grad():
        found = mask_gradient(case.edges, case.batch, case.loss, case.counterfactual, mask)
        for element in range(0, len(mask), 7):
            shift = torch.zeros_like(mask)
            shift[element] = step
            ends = torch.stack([mask + shift, mask - shift])
            more, less = case.loss(case.edges.logits(case.batch, ends, case.counterfactual)).sum(-1)
            wanted = float(more - less) / (2 * step)
            assert float(found[element]) == pytest.approx(wanted, rel=1e-5, abs=1e-8)
    assert not mask.requires_grad


# ---------------------------------------------------------------- how it is made
def test_the_choices_make_the_graph():
    model = small_model("gpt2-like", d_vocab=6)
    pairs = [FirstToken().pairs(split, 4, 0) for split in ("train", "test")]
    choices = replace(CHOICES, inputs="split")
    edges = make_patchable(model, choices, pairs)
    assert isinstance(edges, EdgeModel)
    assert edges.model is model
    assert edges.graph == Graph.of(model.config, "split")
    assert edges.space == EdgeModel(model, edges.graph).space


def test_positions_of_their_own_are_those_of_the_prompts():
    """Read where the pairs of any of the splits are read; unused places are no position."""
    model = small_model("gpt2-like", d_vocab=6)
    train, test = (FirstToken().pairs(split, 4, 0) for split in ("train", "test"))
    test = replace(test, positions=np.full((4, 2), [1, -1]), good=test.good.repeat(2, 1))
    choices = replace(CHOICES, positions="per_token")
    positions = make_patchable(model, choices, [train, test]).graph.positions
    assert (positions.count, positions.read, positions.causal) == (4, (1, 3), True)


def test_an_unknown_granularity_is_refused():
    model = small_model("gpt2-like")
    with pytest.raises(NotFound, match="unknown granularity 'atom'"):
        make_patchable(model, replace(CHOICES, granularity="atom"), [])


@pytest.mark.parametrize("ablation", ["interchange", "resample", "mean", "mean_positional", "zero"])
def test_counterfactuals_follow_the_choices(ablation, random_batch):
    case, other = Case("gpt2-like", random_batch(), ablation=ablation), random_batch(seed=1)
    for head_bias in ("unattached", "shared") if ablation == "zero" else ("unattached",):
        choices = replace(CHOICES, ablation=ablation, head_bias=head_bias)
        counterfactuals = case.edges.counterfactuals(choices, [case.batch], seed=0)
        assert counterfactuals.ablation == ablation
        assert counterfactuals.notes == {}
        wanted = EdgeCounterfactuals(
            case.model, case.edges.graph, ablation, mean_over=[case.batch], head_bias=head_bias
        )
        for batch in (case.batch, other):
            for one, two in zip(
                counterfactuals.of(batch).streams, wanted.of(batch).streams, strict=True
            ):
                assert torch.equal(one, two)


@pytest.mark.slow
def test_learned_counterfactuals_follow_the_seed_and_the_metric(random_batch):
    case = Case("gpt2-like", random_batch(n=6))
    choices = replace(CHOICES, ablation="optimal")

    def learned(seed, choices):
        found = case.edges.counterfactuals(choices, [case.batch], seed)
        assert found.ablation == "optimal"
        assert set(found.notes) == {"optimal/distance", "optimal/distance_of_means"}
        return torch.stack(found.of(case.batch).streams)

    first = learned(0, choices)
    assert torch.equal(learned(0, choices), first)
    assert not torch.equal(learned(1, choices), first)
    assert not torch.equal(learned(0, replace(choices, metric="squared_error")), first)


@pytest.mark.parametrize("inputs", ["token", "summed", "split", "none"])
def test_stated_numbers_are_those_that_passes_hold(inputs, random_batch):
    model, batch = small_model("gpt2-like"), random_batch(n=5)
    edges = EdgeModel(model, Graph.of(model.config, inputs))
    tokens = batch.clean.numel()
    one = edges.graph.n_writers * model.config.d_model
    assert [edges.numbers(n) for n in (0, 1, tokens)] == [0, one, tokens * one]
    run = EdgeCounterfactuals(model, edges.graph, "interchange").of(batch)
    held = sum(x.numel() for x in (run.inputs, *run.heads, *run.mlps, *run.streams))
    stated = edges.counterfactual_numbers(tokens)
    assert held <= stated <= held + 2 * tokens * model.config.d_model
    assert edges.counterfactual_numbers(2 * tokens) == 2 * stated


def test_a_counterfactual_of_some_prompts_is_that_of_these_prompts(random_batch):
    case = Case("gemma-like", random_batch(n=5))
    rows, masks = torch.tensor([4, 1]), case.random()
    whole = case.edges.logits(case.batch, masks, case.counterfactual)
    some = case.edges.logits(case.batch.take(rows), masks, case.counterfactual.take(rows))
    torch.testing.assert_close(some, whole[:, rows], rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- the self-check
def test_the_self_check_names_the_unit_and_the_difference(random_batch, monkeypatch):
    case = Case("gpt2-like", random_batch())
    assert self_check(case.edges, case.batch, case.counterfactual) < 1e-12
    logits = EdgeModel.logits
    monkeypatch.setattr(EdgeModel, "logits", lambda *args: 1.01 * logits(*args))
    with pytest.raises(HarnessError, match=r"with all edges kept .* differs .* by \d\.\d+e-02"):
        self_check(case.edges, case.batch, case.counterfactual)


@pytest.mark.parametrize("name", POST_NORMS)
def test_learned_constants_are_refused_with_post_norms(name, random_batch):
    case = Case(name, random_batch())
    with pytest.raises(HarnessError, match="choose mean"):
        case.edges.counterfactuals(replace(CHOICES, ablation="optimal"), [case.batch], 0)
